//go:build unix

package contender

import (
	"syscall"
	"time"
)

// cpuTime is what this process and the programs it has run took of the CPU.
func cpuTime() (used time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return used
}

// childPeak is the most memory of a program that this process has run.
func childPeak() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0
	}
	return int64(u.Maxrss) << 10
}
