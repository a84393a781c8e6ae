package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
)

// maxIdle is how many idle connections to a host are kept: as many as there may be requests.
const maxIdle = 128

var errNoCertificate = errors.New("no certificate in it; it must be PEM")

// remote opens the repository of a reference as the flags want it reached, to pull from it. What is tried
// again is told to the notes.
func (a *app) remote(r ref.Reference, mirrors []string, n *notes) (*registry.Repository, error) {
	return a.open(r, registry.Options{Mirrors: mirrors}, n)
}

// open opens the repository of a reference.
func (a *app) open(r ref.Reference, o registry.Options, n *notes) (*registry.Repository, error) {
	o, err := a.registryOptions(r, o, n)
	if err != nil {
		return nil, err
	}
	return registry.Open(o)
}

// registryOptions fills in how a registry is reached.
func (a *app) registryOptions(r ref.Reference, o registry.Options, n *notes) (registry.Options, error) {
	a.asked(r)
	client, err := a.client()
	if err != nil {
		return o, err
	}
	return registry.Options{
		BaseURL: r.BaseURL(), Repository: r.Repository, Mirrors: o.Mirrors, Push: o.Push, Client: client,
		GetCredentials: func(ctx context.Context) (registry.Credentials, error) { return a.credentials(ctx, r) },
		Logger:         slog.New(a.noteHandler(n)),
		StallTimeout:   a.stallTimeout, RetryTimeout: a.retryTimeout,
	}, nil
}

// hasUsername tells whether --username is for a registry.
func (a *app) hasUsername(registry string) bool {
	return a.username != "" && (a.usernameFor == "" || a.usernameFor == registry)
}

// client returns a client that trusts as the flags say, or nil where the library's own does.
func (a *app) client() (*http.Client, error) {
	if a.caFile == "" && a.certFile == "" && !a.insecure {
		return nil, nil
	}
	config := &tls.Config{InsecureSkipVerify: a.insecure}
	if a.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(a.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s: %w", a.caFile, errNoCertificate)
		}
		config.RootCAs = pool
	}
	if a.certFile != "" {
		own, err := tls.LoadX509KeyPair(a.certFile, cmp.Or(a.keyFile, a.certFile))
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // bodies ride on several connections
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, Protocols: protocols,
		MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 30 * time.Second, ExpectContinueTimeout: time.Second,
	}}, nil
}
