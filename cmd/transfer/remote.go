package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/ref"
	"github.com/opencontainers/go-digest"
)

const (
	requestTimeout   = time.Minute // for one manifest or token
	maxErrorBody     = 64 << 10    // 64 KiB
	manifestAttempts = 4
	firstPause       = 500 * time.Millisecond // doubles after each attempt
)

var errRedirect = errors.New("redirect refused")

// remote is what the library leaves to its caller: manifests and tokens of one
// reference.
type remote struct {
	ref    ref.Reference
	tokens *tokens
	client *http.Client
	log    *slog.Logger
	token  string // the last one that was got
}

func (a *app) newRemote(r ref.Reference) *remote {
	client := &http.Client{Timeout: requestTimeout, CheckRedirect: checkRedirect}
	return &remote{
		ref: r, client: client, log: cmp.Or(a.logger(), slog.New(slog.DiscardHandler)),
		tokens: &tokens{
			client:   client,
			insecure: r.Scheme == "http",
			find:     func() (credentials, error) { return a.credentialsFor(r.Host, a.username) },
		},
	}
}

// checkRedirect keeps credentials at the origin. Package net/http would send
// them on to another port, and https on to http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > 5:
		return fmt.Errorf("%w: too many", errRedirect)
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: from https to %.20q", errRedirect, req.URL.Scheme)
	}
	for _, r := range append(via, req) {
		if r.URL.Scheme != via[0].URL.Scheme || r.URL.Host != via[0].URL.Host {
			req.Header.Del("Authorization")
			return nil
		}
	}
	return nil
}

// manifest fetches the manifest and checks its digest. Temporary failures are
// tried again a few times.
func (r *remote) manifest(ctx context.Context) ([]byte, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		data, err := r.fetch(ctx)
		if err == nil || ctx.Err() != nil || !temporary(err) || attempt == manifestAttempts {
			return data, err
		}
		r.log.Warn("fetching the manifest failed, trying again", "error", err)
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// temporary tells failures that may pass from those that will not.
func temporary(err error) bool {
	var status *transfer.StatusError
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &status):
		switch status.StatusCode {
		case 408, 425, 429, 500, 502, 503, 504:
			return true
		}
		return false
	case errors.As(err, &certificate), errors.As(err, &dns) && dns.IsNotFound:
		return false
	}
	for _, final := range []error{errRedirect, errManifestDigest, errManifestTooLarge, errTokenServer, errNoBearer, errRealm, errCredentials} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (r *remote) fetch(ctx context.Context) ([]byte, error) {
	resp, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		discard(resp)
		challenge := parseChallenge(strings.Join(resp.Header.Values("WWW-Authenticate"), ", "))
		if r.token, err = r.tokens.get(ctx, challenge); err != nil {
			return nil, err
		}
		if resp, err = r.get(ctx); err != nil {
			return nil, err
		}
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusOK {
		return nil, r.statusError(resp)
	}
	data, err := readBounded(resp.Body)
	if err != nil {
		return nil, err
	}
	return data, r.checkContent(data, resp.Header)
}

func (r *remote) get(ctx context.Context) (*http.Response, error) {
	u := fmt.Sprintf("%s/v2/%s/manifests/%s", r.ref.BaseURL(), r.ref.Repository, r.ref.Version())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	for _, mediaType := range []string{ociManifest, dockerManifest, ociIndex, dockerIndex} {
		req.Header.Add("Accept", mediaType)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", u, withoutURL(err))
	}
	return resp, nil
}

// withoutURL takes the URL from an error of package net/http: after a redirect
// it may be a signed one.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// checkContent compares a manifest with the digest that was asked for or, for a
// tag, with the one that the registry tells.
func (r *remote) checkContent(data []byte, header http.Header) error {
	if r.ref.Digest != "" {
		return checkDigest(data, r.ref.Digest)
	}
	told := digest.Digest(header.Get("Docker-Content-Digest"))
	if told.Validate() != nil {
		return nil
	}
	return checkDigest(data, told)
}

func (r *remote) statusError(resp *http.Response) error {
	u := url.URL{Scheme: resp.Request.URL.Scheme, Host: resp.Request.URL.Host, Path: resp.Request.URL.Path}
	e := &transfer.StatusError{Method: http.MethodGet, URL: u.String(), StatusCode: resp.StatusCode}
	var body struct {
		Errors []transfer.RegistryError `json:"errors"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&body) != nil {
		return e
	}
	for _, told := range body.Errors[:min(len(body.Errors), 5)] {
		if r.token != "" { // a server may quote what it was sent
			told.Message = strings.ReplaceAll(told.Message, r.token, "***")
		}
		e.Errors = append(e.Errors, told)
	}
	return e
}

// discard closes a body after reading the little that may be left of it, so
// that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}
