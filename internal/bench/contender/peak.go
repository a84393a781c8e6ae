package contender

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// resetPeak makes the kernel forget the peak of before, such as the list of blobs being
// read. Where it cannot, the peak is that of the whole process.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peak is the most memory of this process or of a program that it has run. It is
// not taken from rusage, where a process inherits the peak of its parent.
func peak() int64 {
	if children := childPeak(); children > 0 {
		return children
	}
	if n, ok := highWater(); ok {
		return n
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}

func highWater() (n int64, ok bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscanf(after, "%d kB", &n)
	return n << 10, err == nil
}
