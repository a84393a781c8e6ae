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

// SameOwner tells whether two files belong to one user.
func SameOwner(a, b fs.FileInfo) bool {
	first, ok := a.Sys().(*syscall.Stat_t)
	second, both := b.Sys().(*syscall.Stat_t)
	return ok && both && first.Uid == second.Uid
}

// IsTrusted tells whether a link was made by the user of this process, or by root.
func IsTrusted(link fs.FileInfo) bool {
	st, ok := link.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || IsOwn(link))
}

// OneName tells whether a file has no other name, by which others may know it.
func OneName(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}
