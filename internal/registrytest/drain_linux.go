package registrytest

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

// drainPatience bounds the wait for a client that has stopped reading.
const drainPatience = 2 * time.Second

// drain waits until the peer's kernel has all that was written to c, because a
// reset throws away what is still on its way.
func drain(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(drainPatience); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if unsent(raw) == 0 {
			return
		}
	}
}

// unsent returns how many bytes of the socket's send queue are not acknowledged.
func unsent(raw syscall.RawConn) int32 {
	var n int32
	raw.Control(func(fd uintptr) {
		// SIOCOUTQ has the number of TIOCOUTQ.
		syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	return n
}
