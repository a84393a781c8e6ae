// Package faults holds docs/faults.md and the tests of the repository to each other: every fault that a test
// names is listed, and every fault that is listed has a test.
package faults
