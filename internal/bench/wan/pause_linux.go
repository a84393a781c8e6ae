package wan

import (
	"time"

	"golang.org/x/sys/unix"
)

// pause sleeps more exactly than time.Sleep, which wakes up to a millisecond late.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // woken early by a signal, the packet is early too
}
