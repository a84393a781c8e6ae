//go:build !unix

package blobstore

const openNonblock = 0
