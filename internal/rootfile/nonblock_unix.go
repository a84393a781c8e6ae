//go:build unix

package rootfile

import "syscall"

// nonblock keeps the opening of a pipe from waiting for its other end. It also saves four system calls that
// would find out that a regular file cannot be polled.
const nonblock = syscall.O_NONBLOCK
