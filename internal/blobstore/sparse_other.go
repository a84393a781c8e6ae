//go:build !windows

package blobstore

import "os"

// makeSparse does nothing: files are sparse where the file system can have such.
func makeSparse(*os.File) {}
