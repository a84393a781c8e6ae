package contender

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
)

// manyBlobs is from how many blobs on a program for single files is of no use.
const manyBlobs = 8

// aria2cDownload uses as many connections as aria2c can have to one server.
func aria2cDownload(ctx context.Context, j *Job) error {
	return command(ctx, j, func(b Blob) []string {
		n := strconv.Itoa(min(j.workers(), 16))
		return []string{"aria2c", "--quiet", "--no-conf", "--file-allocation=none", "--min-split-size=1M",
			"--max-connection-per-server=" + n, "--split=" + n, "--dir=" + j.Dir, "--out=" + b.File(),
			j.blobURL(b)}
	})
}

func curlDownload(ctx context.Context, j *Job) error {
	return command(ctx, j, func(b Blob) []string {
		return []string{"curl", "--silent", "--show-error", "--fail", "--location", "--output", j.path(b),
			j.blobURL(b)}
	})
}

// command runs a program for each blob.
func command(ctx context.Context, j *Job, line func(Blob) []string) error {
	if len(j.Blobs) > manyBlobs {
		return fmt.Errorf("%w: one blob at a time only", errCannot)
	}
	for _, b := range j.Blobs {
		args := line(b)
		program, err := exec.LookPath(args[0])
		if err != nil {
			return fmt.Errorf("%w: not installed", errCannot)
		}
		if out, err := exec.CommandContext(ctx, program, args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %.200s", args[0], err, out)
		}
	}
	return nil
}
