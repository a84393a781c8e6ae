// Command puller downloads blobs and exits: 0 when all are there, 1 with the error otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/modeltransfer/transfer"
)

func main() {
	if err := pull(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pull(args []string) error {
	flags := flag.NewFlagSet("puller", flag.ContinueOnError)
	base := flags.String("base", "", "base URL of the registry")
	dir := flags.String("dir", "", "directory that gets the blobs")
	list := flags.String("blobs", "", "digest:size,digest:size,...")
	concurrency := flags.Int("concurrency", 0, "most requests at once; 0 is the package's default")
	agent := flags.String("agent", "", "User-Agent of the requests")
	if err := flags.Parse(args); err != nil {
		return err
	}
	blobs, err := parseBlobs(*list)
	if err != nil {
		return err
	}
	return transfer.Download(context.Background(), transfer.DownloadOptions{
		BaseURL: *base, DestDir: *dir, Blobs: blobs, Concurrency: *concurrency, UserAgent: *agent,
	})
}

// parseBlobs parses "sha256:<hex>:<size>" items with commas between them.
func parseBlobs(list string) ([]transfer.Blob, error) {
	if list == "" {
		return nil, errors.New("no blobs")
	}
	var blobs []transfer.Blob
	for item := range strings.SplitSeq(list, ",") {
		colon := strings.LastIndexByte(item, ':')
		if colon < 0 {
			return nil, fmt.Errorf("blob %q has no size", item)
		}
		size, err := strconv.ParseInt(item[colon+1:], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("blob %q: %w", item, err)
		}
		blobs = append(blobs, transfer.Blob{Digest: item[:colon], Size: size})
	}
	return blobs, nil
}
