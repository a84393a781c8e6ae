//go:build darwin || linux

package wire

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent keeps the kernel from taking more of a body than it can send soon. What it has taken counts as
// sent: on a slow link, Progress would be far ahead. An error changes nothing but that.
func limitUnsent(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}

// unacked returns how many bytes of what was written the kernel still holds.
func unacked(c syscall.RawConn) (n int) {
	_ = c.Control(func(fd uintptr) { n, _ = sendQueue(int(fd)) })
	return n
}
