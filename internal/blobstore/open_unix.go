//go:build unix

package blobstore

import "syscall"

// openNonblock keeps the opening of a pipe from waiting. It also saves four system calls that
// would find out that a regular file cannot be polled.
const openNonblock = syscall.O_NONBLOCK
