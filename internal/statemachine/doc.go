// Package statemachine makes random calls of the transfer package against a
// registry with random faults, one after the other and at once, on one
// directory that is damaged in between, and checks after each what must always
// hold.
package statemachine
