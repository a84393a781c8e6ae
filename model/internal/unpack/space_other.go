//go:build !darwin && !freebsd && !linux

package unpack

// FreeSpace is not known here.
func FreeSpace(string) (n int64, known bool) { return 0, false }
