//go:build !unix

package contender

import "time"

func cpuTime() (user, system time.Duration) { return 0, 0 }

func childPeak() int64 { return 0 }
