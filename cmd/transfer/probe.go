package main

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/ref"
	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/registry"
	"golang.org/x/sync/errgroup"
)

// probesAtOnce is how many blobs are asked about at once.
const probesAtOnce = 16

// prober asks a registry which blobs it has. It is a saving and no more: a request that fails is not
// tried again, and its blob counts as not there.
type prober struct {
	client   *http.Client
	base     string
	getToken func(context.Context, transfer.AuthChallenge) (string, error)

	mu    sync.Mutex // guards the fields that follow
	token string
}

func newProber(client *http.Client, r ref.Reference, repo *registry.Repository) *prober {
	o := repo.UploadOptions()
	quiet := *cmp.Or(client, &http.Client{})
	// A redirect is an answer: it leads to what is there, and the token must not go with it.
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &prober{
		client: &quiet, base: r.BaseURL() + "/v2/" + r.Repository + "/blobs/", getToken: o.GetToken,
		token: o.Token,
	}
}

// all returns the blobs that are there, or are mounted from a repository where one is given.
func (p *prober) all(ctx context.Context, blobs []transfer.Blob, from string) (map[string]bool, error) {
	var mu sync.Mutex
	there := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(probesAtOnce)
	for _, b := range blobs {
		g.Go(func() error {
			if p.has(ctx, b) || from != "" && p.mount(ctx, b.Digest, from) {
				mu.Lock()
				there[b.Digest] = true
				mu.Unlock()
			}
			return context.Cause(ctx)
		})
	}
	return there, g.Wait()
}

// has asks for a blob. A 200 counts only with its length, or with its digest where no length is told: some
// registries have a blob of another length, and anything may have nothing.
func (p *prober) has(ctx context.Context, b transfer.Blob) bool {
	resp, err := p.send(ctx, http.MethodHead, p.base+b.Digest)
	if err != nil || resp.StatusCode != http.StatusOK {
		return err == nil && resp.StatusCode == http.StatusTemporaryRedirect
	}
	if resp.ContentLength == b.Size && b.Size > 0 {
		return true
	}
	named := resp.Header.Get("Docker-Content-Digest") == b.Digest
	return named && (resp.ContentLength < 0 || resp.ContentLength == b.Size)
}

// mount asks for a blob of another repository. Where the registry opens an upload instead, it is ended.
func (p *prober) mount(ctx context.Context, dg, from string) bool {
	query := url.Values{"mount": {dg}, "from": {from}}
	resp, err := p.send(ctx, http.MethodPost, p.base+"uploads/?"+query.Encode())
	if err != nil {
		return false
	}
	if resp.StatusCode == http.StatusAccepted {
		if upload, err := resp.Location(); err == nil && strings.HasPrefix(upload.String(), p.base) {
			_, _ = p.send(ctx, http.MethodDelete, upload.String()) // the registry ends it some day
		}
	}
	return resp.StatusCode == http.StatusCreated
}

// send sends a request with the token, and once more with a new one where that is refused.
func (p *prober) send(ctx context.Context, method, target string) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
		if err != nil {
			return nil, err
		}
		if token := p.current(); strings.Contains(token, " ") { // it says its scheme itself
			req.Header.Set("Authorization", token)
		} else if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := p.client.Do(req)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close() // only the headers count
		if resp.StatusCode != http.StatusUnauthorized || attempt > 0 {
			return resp, nil
		}
		var c transfer.AuthChallenge
		c.Realm, c.Service, c.Scope, _ = challenge.Bearer(resp.Header.Values("WWW-Authenticate")...)
		token, err := p.getToken(ctx, c)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.token = token
		p.mu.Unlock()
	}
}

func (p *prober) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token
}
