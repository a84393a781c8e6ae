package wire

import "golang.org/x/sys/unix"

func sendQueue(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NWRITE) }
