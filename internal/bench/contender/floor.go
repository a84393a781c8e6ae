package contender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
)

var errStatus = errors.New("unexpected status")

// floor is the least that can be done.
type floor struct {
	*Job
	client *http.Client
	*saver
}

func newFloor(j *Job) *floor {
	return &floor{Job: j, client: &http.Client{Transport: transport(j.workers())}, saver: newSaver()}
}

func floorDownload(ctx context.Context, j *Job) error {
	f := newFloor(j)
	return j.each(ctx, f.fetch)
}

// fetch fetches a blob, unless it is there.
func (f *floor) fetch(ctx context.Context, b Blob) error {
	if fi, err := os.Stat(f.path(b)); err == nil && fi.Size() == b.Size {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.blobURL(b), nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errStatus, resp.Status)
	}
	return f.verified(f.path(b), b, resp.Body)
}

func floorUpload(ctx context.Context, j *Job) error {
	f := newFloor(j)
	return j.each(ctx, f.send)
}

// send begins a session and sends the blob, hashing it.
func (f *floor) send(ctx context.Context, b Blob) error {
	begun, err := f.request(ctx, http.MethodPost, f.BaseURL+"/v2/"+f.Repository+"/blobs/uploads/", nil, 0,
		http.StatusAccepted)
	if err != nil {
		return err
	}
	at, err := begun.Request.URL.Parse(begun.Header.Get("Location"))
	if err != nil {
		return err
	}
	at.RawQuery = url.Values{"digest": {b.Digest}}.Encode()
	file, err := os.Open(f.path(b))
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	_, err = f.request(ctx, http.MethodPut, at.String(), io.TeeReader(file, h), b.Size, http.StatusCreated)
	if err == nil && b.Digest != "sha256:"+hex.EncodeToString(h.Sum(nil)) {
		return fmt.Errorf("%w: %s", errContent, b.Digest)
	}
	return err
}

func (f *floor) request(
	ctx context.Context, method, to string, body io.Reader, size int64, want int,
) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%w: %s %s", errStatus, method, resp.Status)
	}
	return resp, nil
}
