//go:build unix

package rootfile

import (
	"io/fs"
	"os"
	"syscall"
)

// IsOwn tells whether a file belongs to the user of this process.
func IsOwn(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
