package wire

import "golang.org/x/sys/unix"

func sendQueue(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCOUTQ) }
