package blobstore

import (
	"os"
	"time"
)

// renameTimeout is how long a rename is tried again while another program, often a virus scanner, has the
// file open. Only Windows refuses it then.
const renameTimeout = 2 * time.Second

func rename(root *os.Root, from, to string) error {
	return whileShared(func() error { return root.Rename(from, to) }, sharingViolation)
}

func whileShared(rename func() error, shared func(error) bool) error {
	wait := time.Millisecond
	for deadline := time.Now().Add(renameTimeout); ; wait *= 2 {
		err := rename()
		if !shared(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		time.Sleep(wait)
	}
}
