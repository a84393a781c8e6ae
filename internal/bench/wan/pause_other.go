//go:build !linux

package wan

import "time"

func pause(d time.Duration) { time.Sleep(d) }
