// Package e2e tests the transfer package against real registries, a token
// server, an object store, a pull-through cache and another client, and over
// links with faults.
//
// It is a module of its own, so that none of these reaches the users of the
// library. Everything runs in the process of the tests, on loopback.
package e2e
