//go:build !(darwin || linux)

package wire

import "syscall"

func limitUnsent(syscall.RawConn) {}
