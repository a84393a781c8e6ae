//go:build !unix

package unpack

import "io/fs"

// sizeOnDisk is not told here.
func sizeOnDisk(info fs.FileInfo) int64 { return info.Size() }
