package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/challenge"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	maxRedirects = 10

	// maxRefreshes is how many new tokens one request may ask for, as in package transfer.
	maxRefreshes = 2
)

// request is a request whose answer is small.
type request struct {
	wire.Request

	limit         int64    // the most bytes of the answer that are read
	authorization string   // sent to the origin of Target only; "" is none
	confined      bool     // the body has a secret in it, so redirects must stay at the origin
	secrets       []string // what no error may quote
}

// answer is an answer that was read.
type answer struct {
	method     string
	target     wire.Target
	status     int
	header     http.Header
	body       []byte // of a 200
	errors     []transfer.RegistryError
	retryAfter time.Duration
}

// what says what was answered.
func (a *answer) what() string { return a.method + " " + wire.Redact(a.target.URL) }

// err returns the answer as an error.
func (a *answer) err() error {
	return retryAfterError{&transfer.StatusError{
		Method: a.method, URL: wire.Redact(a.target.URL), StatusCode: a.status, Errors: a.errors,
	}, a.retryAfter}
}

// call sends a request to the registry with the current token, and answers a 401 with a new one. So
// it does with the 403 of a registry that says so of a token made for pulling only.
func (r *Repository) call(ctx context.Context, req request, push bool) (*answer, error) {
	for refreshes := 0; ; refreshes++ {
		token := r.auth.current()
		req.authorization, req.secrets = authorization(token), []string{token}
		ans, err := r.send(ctx, req)
		if err != nil {
			return nil, err
		}
		narrow := ans.status == http.StatusForbidden && push && token != "" && refreshes == 0 && !r.auth.mayPush()
		if ans.target.Left || refreshes == maxRefreshes || ans.status != http.StatusUnauthorized && !narrow {
			return ans, nil
		}
		var c transfer.AuthChallenge
		c.Realm, c.Service, c.Scope, _ = challenge.Bearer(ans.header.Values("WWW-Authenticate")...)
		if _, err := r.renewToken(ctx, c, push); err != nil {
			return nil, permanentError{fmt.Errorf("getting a token: %w", err)}
		}
	}
}

// authorization returns the header value for a token: that of Basic authentication says so itself.
func authorization(token string) string {
	if token == "" || strings.Contains(token, " ") {
		return token
	}
	return "Bearer " + token
}

// send sends one request, follows redirects, and reads the answer. A request that makes no progress for
// StallTimeout ends with [transfer.ErrStalled].
func (r *Repository) send(ctx context.Context, req request) (*answer, error) {
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(r.opts.StallTimeout, func() { cancel(transfer.ErrStalled) })
	defer watch.Stop()
	progress := func() { watch.Reset(r.opts.StallTimeout) }
	ans, err := r.follow(ctx, req, progress)
	if err != nil && caller.Err() == nil && context.Cause(ctx) == transfer.ErrStalled {
		return nil, fmt.Errorf("%w: %s %s: no progress for %v", transfer.ErrStalled, req.Method,
			wire.Redact(req.Target.URL), r.opts.StallTimeout)
	}
	return ans, err
}

func (r *Repository) follow(ctx context.Context, req request, progress func()) (*answer, error) {
	origin := req.Target
	req.NoFollow = true
	if body := req.Body; body != nil {
		req.Body = func() (io.ReadCloser, error) {
			b, err := body()
			return &watchedBody{b, progress}, err
		}
	}
	for range maxRedirects + 1 {
		hop := req.Request
		if hop.Header = req.Header.Clone(); hop.Header == nil {
			hop.Header = http.Header{}
		}
		same := sameOrigin(hop.Target.URL, origin.URL)
		if req.authorization != "" && same {
			hop.Header.Set("Authorization", req.authorization)
		} else if req.confined && !same {
			return nil, fmt.Errorf("%w: %s leads to another host than %s, which would see the credentials",
				transfer.ErrRedirectRefused, wire.Redact(hop.Target.URL), origin.URL.Host)
		}
		resp, err := r.client.Do(ctx, hop)
		if err != nil {
			return nil, err
		}
		progress()
		if !wire.IsRedirect(resp.StatusCode) {
			return r.read(ctx, req, resp, progress)
		}
		resp.Discard()
		if req.Target, err = hop.Target.Resolve(resp.Header.Get("Location")); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: more than %d redirects, the last to %s", transfer.ErrRedirectRefused,
		maxRedirects, wire.Redact(req.Target.URL))
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// read reads the answer to its end, or to the limit.
func (r *Repository) read(
	ctx context.Context, req request, resp *wire.Response, progress func(),
) (*answer, error) {
	ans := &answer{
		method: req.Method, target: resp.Target, status: resp.StatusCode, header: resp.Header,
		retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
	r.log.LogAttrs(ctx, slog.LevelDebug, "answer", slog.String("request", ans.what()),
		slog.Int("status", resp.StatusCode))
	body := &watchedBody{resp.Body, progress}
	if resp.StatusCode >= http.StatusMultipleChoices {
		errs, _ := wire.ReadErrors(body)
		for _, e := range errs {
			ans.errors = append(ans.errors, transfer.RegistryError{
				Code: withoutSecrets(e.Code, req.secrets), Message: withoutSecrets(e.Message, req.secrets),
			})
		}
		return ans, nil
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, req.limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ans.what(), err)
	}
	if int64(len(data)) > req.limit {
		return nil, fmt.Errorf("%w: %s: more than %d bytes", transfer.ErrProtocol, ans.what(), req.limit)
	}
	ans.body = data
	return ans, nil
}

// watchedBody tells of each byte that moves.
type watchedBody struct {
	io.ReadCloser
	progress func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress()
	}
	return n, err
}

// minQuote is from how many bytes on the beginning of a secret is taken for it: fewer may be chance.
const minQuote = 4

// withoutSecrets takes secrets out of what a server says, which may quote what it was sent and be cut
// short in the middle of it.
func withoutSecrets(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) < minQuote {
			continue
		}
		text = strings.ReplaceAll(text, secret, "***")
		for n := min(len(secret), len(text)); n >= minQuote; n-- {
			if before, ok := strings.CutSuffix(text, secret[:n]); ok {
				text = before + "***"
				break
			}
		}
	}
	return text
}

var _ error = retryAfterError{}

// retryAfterError goes with what the server said about when to come back.
type retryAfterError struct {
	*transfer.StatusError
	wait time.Duration
}

func (e retryAfterError) Unwrap() error { return e.StatusError }

// permanentError is an error that no second attempt will mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func isPermanent(err error) bool {
	var final permanentError
	return errors.As(err, &final)
}
