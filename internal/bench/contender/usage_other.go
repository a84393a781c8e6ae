//go:build !unix

package contender

import "time"

func cpuTime() time.Duration { return 0 }

func childPeak() int64 { return 0 }
