//go:build darwin || freebsd || linux

package unpack

import (
	"fmt"
	"io/fs"

	"syscall"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// changed names the state of a file as no program can make it up: its number, and when it was changed last.
func changed(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Ino, changeTime(st))
}

// trusted tells whether a link was made by the user of this process, or by root.
func trusted(link fs.FileInfo) bool {
	st, ok := link.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || rootfile.IsOwn(link))
}
