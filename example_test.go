package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
)

func ExampleDownload() {
	err := transfer.Download(context.Background(), transfer.DownloadOptions{
		Blobs: []transfer.Blob{
			{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5},
		},
		BaseURL:    "https://registry.example",
		Repository: "library/model",
		DestDir:    "blobs",
		Progress:   func(completed, total int64) { fmt.Printf("\r%d of %d bytes", completed, total) },
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleUpload() {
	manifest, err := os.ReadFile("manifest.json")
	if err != nil {
		log.Fatal(err)
	}
	err = transfer.Upload(context.Background(), transfer.UploadOptions{
		Blobs: []transfer.Blob{
			{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5,
				From: "library/base"},
		},
		BaseURL: "https://registry.example", Repository: "library/model",
		SrcDir: "blobs", Manifest: manifest, ManifestRef: "latest",
	})
	if err != nil {
		log.Fatal(err)
	}
}

// What a call has cost, counted as it happens.
func ExampleTrace() {
	hello := []byte("hello")
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(hello)
	}))
	defer registry.Close()
	dir, err := os.MkdirTemp("", "blobs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var moved, saved atomic.Int64
	opts := transfer.DownloadOptions{
		Blobs:   []transfer.Blob{{Digest: digest.FromBytes(hello).String(), Size: 5}},
		BaseURL: registry.URL, DestDir: dir,
		Trace: &transfer.Trace{
			Present: func(i transfer.PresentInfo) { saved.Add(i.Blob.Size) },
			Done:    func(i transfer.DoneInfo) { moved.Add(i.Moved); saved.Add(i.Reused) },
			Retried: func(i transfer.RetryInfo) { log.Printf("%s: %v", i.Host, i.Err) },
		},
	}
	for range 2 {
		if err := transfer.Download(context.Background(), opts); err != nil {
			log.Fatal(err)
		}
		fmt.Println(moved.Load(), "bytes moved,", saved.Load(), "were there")
	}
	// Output:
	// 5 bytes moved, 0 were there
	// 5 bytes moved, 5 were there
}

func ExampleStatusError() {
	err := transfer.Download(context.Background(), transfer.DownloadOptions{
		Blobs:   []transfer.Blob{{Digest: "sha256:../../etc/passwd", Size: 5}},
		BaseURL: "https://registry.example", DestDir: "blobs",
	})
	var blob *transfer.BlobError
	var status *transfer.StatusError
	switch {
	case errors.Is(err, transfer.ErrInvalidDigest):
		fmt.Println("nothing was asked for, and nothing was written")
	case errors.As(err, &status) && status.StatusCode == http.StatusForbidden:
		fmt.Println("not for us:", status.Errors)
	case errors.As(err, &blob):
		fmt.Println("try again later:", blob.Digest)
	}
	// Output: nothing was asked for, and nothing was written
}

func ExampleAuthChallenge() {
	opts := transfer.DownloadOptions{BaseURL: "https://registry.example", DestDir: "blobs"}
	opts.GetToken = func(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
		query := url.Values{"service": {challenge.Service}, "scope": {challenge.Scope}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, challenge.Realm+"?"+query.Encode(), nil)
		if err != nil {
			return "", err
		}
		return askTokenServer(req)
	}
	if err := transfer.Download(context.Background(), opts); err != nil {
		log.Fatal(err)
	}
}

// askTokenServer stands for what reads the token out of the answer.
func askTokenServer(req *http.Request) (string, error) { return "token for " + req.URL.Path, nil }

// What a program moves itself counts too.
func ExampleLimiter_Reader() {
	limiter := transfer.NewLimiter(50 << 20) // of the calls that go on meanwhile, too
	n, err := io.Copy(io.Discard, limiter.Reader(context.Background(), strings.NewReader("weights")))
	fmt.Println(n, err)
	// Output: 7 <nil>
}

// A program gives all its calls one limiter, so that together they leave bandwidth to others.
func ExampleNewLimiter() {
	limiter := transfer.NewLimiter(50 << 20) // 50 MiB per second
	for _, model := range []string{"library/one", "library/other"} {
		go func() {
			err := transfer.Download(context.Background(), transfer.DownloadOptions{
				Blobs: []transfer.Blob{
					{
						Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
						Size:   5,
					},
				},
				BaseURL: "https://registry.example", Repository: model, DestDir: "blobs", Limiter: limiter,
			})
			if err != nil {
				log.Print(err)
			}
		}()
	}
}
