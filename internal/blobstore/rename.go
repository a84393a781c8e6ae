package blobstore

import (
	"os"
	"time"
)

// renamePatience is how long a rename is tried while something else, often a virus scanner, has
// the file open, which only Windows minds.
const renamePatience = 2 * time.Second

func rename(root *os.Root, from, to string) error {
	return whileShared(func() error { return root.Rename(from, to) }, sharingViolation)
}

func whileShared(rename func() error, shared func(error) bool) error {
	pause := time.Millisecond
	for deadline := time.Now().Add(renamePatience); ; pause *= 2 {
		err := rename()
		if !shared(err) || time.Now().Add(pause).After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
