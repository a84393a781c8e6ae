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

	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
)

var errDifferent = errors.New("what was pulled is not what was pushed")

// compare reads each file in both directories of blobs, hashes it and compares every
// byte. The first difference is an error that matches errDifferent.
func compare(ctx context.Context, wantDir, gotDir string, files []model.File) error {
	want, got := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for _, f := range files {
		if err := compareBlob(ctx, wantDir, gotDir, f.Digest, want, got); err != nil {
			return err
		}
	}
	return nil
}

func compareBlob(ctx context.Context, wantDir, gotDir string, dg string, want, got []byte) error {
	sent, err := os.Open(filepath.Join(wantDir, blobFile(dg)))
	if err != nil {
		return err
	}
	defer sent.Close()
	received, err := os.Open(filepath.Join(gotDir, blobFile(dg)))
	if err != nil {
		return err
	}
	defer received.Close()
	verifier := digest.Digest(dg).Verifier()
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
			return fmt.Errorf("%w: %s", errDifferent, dg)
		case sentErr == nil:
			continue
		case !verifier.Verified():
			return fmt.Errorf("%w: %s has another digest", errDifferent, dg)
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
