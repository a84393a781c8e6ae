package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/opencontainers/go-digest"
)

var errDifferent = errors.New("what was pulled is not what was pushed")

// compare reads each blob in both directories, hashes it and compares every
// byte. The first difference is an error that matches errDifferent.
func compare(ctx context.Context, wantDir, gotDir string, blobs []transfer.Blob) error {
	want, got := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for _, b := range blobs {
		if err := compareBlob(ctx, wantDir, gotDir, b, want, got); err != nil {
			return err
		}
	}
	return nil
}

func compareBlob(ctx context.Context, wantDir, gotDir string, b transfer.Blob, want, got []byte) error {
	sent, err := os.Open(filepath.Join(wantDir, blobFile(b.Digest)))
	if err != nil {
		return err
	}
	defer sent.Close()
	received, err := os.Open(filepath.Join(gotDir, blobFile(b.Digest)))
	if err != nil {
		return err
	}
	defer received.Close()
	verifier := digest.Digest(b.Digest).Verifier()
	hashed := io.TeeReader(received, verifier)
	for ctx.Err() == nil {
		n, sentErr := io.ReadFull(sent, want)
		m, receivedErr := io.ReadFull(hashed, got)
		switch {
		case failed(sentErr):
			return sentErr
		case failed(receivedErr):
			return receivedErr
		case !bytes.Equal(want[:n], got[:m]):
			return fmt.Errorf("%w: %s", errDifferent, b.Digest)
		case sentErr == nil:
			continue
		case !verifier.Verified():
			return fmt.Errorf("%w: %s has another digest", errDifferent, b.Digest)
		}
		return nil
	}
	return ctx.Err()
}

// failed tells an error from the end of a file.
func failed(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// blobFile is the name of a blob's file.
func blobFile(dg string) string { return strings.Replace(dg, ":", "-", 1) }
