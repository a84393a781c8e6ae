package model

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"golang.org/x/sync/errgroup"
)

// probesAtOnce is how many blobs are asked about at once.
const probesAtOnce = 16

// defaultPatience is the StallTimeout of package transfer.
const defaultPatience = 10 * time.Second

// prober asks a registry which blobs it has. It is a saving and no more: a request that fails is not
// tried again, and its blob counts as not there.
type prober struct {
	client   *http.Client
	base     string
	getToken func(context.Context, transfer.AuthChallenge) (string, error)
	patience time.Duration // with a request that is not answered
	silent   atomic.Bool   // one was not
	agent    string        // the User-Agent
	atOnce   int

	mu    sync.Mutex // guards the fields that follow
	token string
}

func newProber(options Options, r ref.Reference, repo *registry.Repository) *prober {
	o := repo.UploadOptions()
	quiet := *cmp.Or(options.Client, &http.Client{})
	quiet.Timeout = 0 // a blob takes the time that it takes
	// A redirect is an answer: it leads to what is there, and the token must not go with it.
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &prober{
		client: &quiet, base: r.BaseURL() + "/v2/" + r.Repository + "/blobs/", getToken: o.GetToken,
		token: o.Token, patience: cmp.Or(o.StallTimeout, defaultPatience),
		atOnce: options.atOnce(probesAtOnce), agent: o.UserAgent,
	}
}

// all returns the blobs that are there, or are mounted from a repository where one is given.
func (p *prober) all(ctx context.Context, blobs []transfer.Blob, from string) (map[string]bool, error) {
	var mu sync.Mutex
	there := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.atOnce)
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
	asking, stop := lingering(ctx)
	defer stop()
	resp, err := p.send(asking, http.MethodPost, p.base+"uploads/?"+query.Encode())
	if err != nil {
		return false
	}
	if resp.StatusCode == http.StatusAccepted {
		if upload, err := resp.Location(); err == nil && strings.HasPrefix(upload.String(), p.base) {
			p.end(ctx, upload.String())
		}
	}
	return resp.StatusCode == http.StatusCreated
}

// mayPush asks whether an upload can be begun, and ends it. An answer that more asking would not change is an
// error; any other shows when something is sent.
func (p *prober) mayPush(ctx context.Context) error {
	upload, answer, err := p.begin(ctx)
	switch {
	case upload != "":
		p.end(ctx, upload)
		return nil
	case err != nil:
		return context.Cause(ctx)
	}
	e := &transfer.StatusError{Method: http.MethodPost, URL: p.base + "uploads/"}
	switch e.StatusCode = answer.StatusCode; e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		if challenge.IsDenied(answer.Header.Values("WWW-Authenticate")...) {
			e.Errors = []transfer.RegistryError{{Code: "DENIED", Message: "insufficient_scope"}}
		}
		return e
	}
	return nil
}

// begin begins an upload. Its URL is empty where there is none to which the token may be sent. Of the answer
// only the head counts.
func (p *prober) begin(ctx context.Context) (upload string, answer *http.Response, err error) {
	asking, stop := lingering(ctx)
	defer stop()
	resp, err := p.send(asking, http.MethodPost, p.base+"uploads/")
	if err != nil {
		return "", nil, err
	}
	if at, err := resp.Location(); resp.StatusCode == http.StatusAccepted && err == nil &&
		strings.HasPrefix(at.String(), p.base) {
		upload = at.String()
	}
	if upload != "" && ctx.Err() != nil {
		p.end(ctx, upload)
		return "", nil, context.Cause(ctx)
	}
	return upload, resp, nil
}

// lingering returns a context that ends endTime after another. It is for a request that leaves an upload
// behind, which nobody could end who has not heard the answer.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	leave := context.AfterFunc(ctx, func() { time.AfterFunc(endTime, cancel) })
	return asking, func() {
		leave() // or it would stay with a context that outlives the call
		cancel()
	}
}

// offset asks how much an upload has, and where it goes on.
func (p *prober) offset(ctx context.Context, upload string) (next string, have int64, ok bool) {
	resp, err := p.send(ctx, http.MethodGet, upload)
	if err != nil || resp.StatusCode/100 != 2 {
		return "", 0, false
	}
	if have, err = wire.UploadRange(resp.Header); err != nil {
		return "", 0, false
	}
	if at, err := resp.Location(); err == nil {
		upload = at.String()
	}
	return upload, have, strings.HasPrefix(upload, p.base)
}

// endTime is how long the end of an upload may take that nobody needs.
const endTime = 2 * time.Second

// end ends an upload, also where the context has ended. A registry that is not told ends it some day.
func (p *prober) end(ctx context.Context, upload string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	_, _ = p.send(ctx, http.MethodDelete, upload)
}

// send sends a request without a body, with the token, and once more with a new one where that is refused.
// Only the head of the answer counts.
func (p *prober) send(ctx context.Context, method, target string) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
		if err != nil {
			return nil, err
		}
		resp, err := p.do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || attempt > 0 {
			return resp, err
		}
		c := challenge.Best(challenge.NamesServer, resp.Header.Values("WWW-Authenticate")...)
		want := transfer.AuthChallenge{Realm: c.Realm, Service: c.Service, Scope: c.Scope}
		token, err := p.getToken(ctx, want)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.token = token
		p.mu.Unlock()
	}
}

// errSilent is a registry that does not answer. It is not asked again: what is asked is a saving only.
var errSilent = errors.New("no answer in time")

// do sends a request and waits for the head of the answer, for no longer than a stall may take.
func (p *prober) do(req *http.Request) (*http.Response, error) {
	if p.silent.Load() {
		return nil, errSilent
	}
	p.authorize(req)
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	patience := time.AfterFunc(p.patience, func() { cancel(errSilent) })
	resp, err := p.client.Do(req.WithContext(ctx))
	if !patience.Stop() && req.Context().Err() == nil {
		p.silent.Store(true)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	return resp, err
}

// authorize says who asks.
func (p *prober) authorize(req *http.Request) {
	req.Header.Set("User-Agent", p.agent)
	p.mu.Lock()
	token := p.token
	p.mu.Unlock()
	if token != "" {
		req.Header.Set("Authorization", wire.Authorization(token))
	}
}
