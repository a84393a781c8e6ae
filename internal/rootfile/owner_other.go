//go:build !unix

package rootfile

import "io/fs"

// IsOwn tells whether a file belongs to the user of this process. Access rights decide here.
func IsOwn(fs.FileInfo) bool { return true }

// SameOwner tells whether two files belong to one user.
func SameOwner(_, _ fs.FileInfo) bool { return true }

// IsTrusted tells whether a link was made by the user of this process, or by root.
func IsTrusted(fs.FileInfo) bool { return true }

// OneName tells whether a file has no other name. That is not known here.
func OneName(fs.FileInfo) bool { return true }
