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
}

func newFloor(_ context.Context, j *Job) (library, error) {
	f := &floor{Job: j, client: &http.Client{Transport: transport(j.workers())}}
	return library{fetch: f.fetch, push: f.push}, nil
}

func (f *floor) fetch(ctx context.Context, b Blob) (io.ReadCloser, error) {
	resp, err := f.request(ctx, http.MethodGet, f.blobURL(b), nil, 0, http.StatusOK)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// push begins a session and sends the blob, hashing it.
func (f *floor) push(ctx context.Context, b Blob, file *os.File) error {
	begun, err := f.request(ctx, http.MethodPost, f.BaseURL+"/v2/"+f.Repository+"/blobs/uploads/", nil, 0,
		http.StatusAccepted)
	if err != nil {
		return err
	}
	at, err := begun.Request.URL.Parse(begun.Header.Get("Location"))
	if err := errors.Join(err, drain(begun)); err != nil {
		return err
	}
	at.RawQuery = url.Values{"digest": {b.Digest}}.Encode()
	h := sha256.New()
	content := io.TeeReader(file, h)
	done, err := f.request(ctx, http.MethodPut, at.String(), content, b.Size, http.StatusCreated)
	if err != nil {
		return err
	}
	if b.Digest != "sha256:"+hex.EncodeToString(h.Sum(nil)) {
		err = fmt.Errorf("%w: %s", errContent, b.Digest)
	}
	return errors.Join(err, drain(done))
}

// drain reads a body to its end, without which its connection is not used again.
func drain(resp *http.Response) error {
	_, err := io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
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
	if resp.StatusCode != want {
		return nil, errors.Join(fmt.Errorf("%w: %s %s", errStatus, method, resp.Status), drain(resp))
	}
	return resp, nil
}
