//go:build darwin || linux

package wire

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent keeps the kernel from taking more of a body than it can send soon. What it has taken cannot
// be seen to move: on a slow link, the end of a body would look like a stall. An error changes nothing but
// that.
func limitUnsent(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}
