//go:build !unix

package rootfile

import "io/fs"

// IsOwn tells whether a file belongs to the user of this process. Access rights decide here.
func IsOwn(fs.FileInfo) bool { return true }
