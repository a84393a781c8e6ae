//go:build !windows

package blobstore

import (
	"errors"
	"os"
)

func sharingViolation(error) bool { return false }

func platformNoSpace(error) bool { return false }

func platformLeadsNowhere(error) bool { return false }

// syncDir makes the names in a directory durable.
func syncDir(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFile(f), f.Close())
}

// makeSparse does nothing: what was not written takes no space here.
func makeSparse(*os.File) {}
