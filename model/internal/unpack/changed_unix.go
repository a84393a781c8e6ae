//go:build darwin || freebsd || linux

package unpack

import (
	"fmt"
	"io/fs"
	"syscall"
)

// changed names the state of a file as no program can make it up: its number, and when it was changed last.
func changed(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Ino, changeTime(st))
}
