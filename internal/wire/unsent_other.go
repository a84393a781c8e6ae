//go:build !(darwin || linux)

package wire

import "syscall"

func limitUnsent(syscall.RawConn) {}

// unacked is not known here.
func unacked(syscall.RawConn) int { return 0 }
