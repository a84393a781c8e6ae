//go:build !linux

package registrytest

func memory() string { return "" }
