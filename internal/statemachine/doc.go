// Package statemachine makes random calls of the transfer package against a
// registry with random faults and habits, over links that may be slow, one after
// the other and at once, on one directory that is damaged in between, and checks
// after each what must always hold: also how long calls wait, and what is moved
// twice.
package statemachine
