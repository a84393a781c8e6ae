package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"

	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
)

// maxIdle is how many idle connections to a host are kept: as many as there may be requests.
const maxIdle = 128

var errNoCertificate = errors.New("no certificate in it; it must be PEM")

// openRepository opens the repository of a reference as the flags want it reached.
func openRepository(a *app, r ref.Reference, o registry.Options) (*registry.Repository, error) {
	o, err := registryOptions(a, r, o)
	if err != nil {
		return nil, err
	}
	return registry.Open(o)
}

// withRepository opens the repository of a reference, and names that in the error of what is done there.
func withRepository(a *app, r ref.Reference, push bool, do func(*registry.Repository) error) error {
	repo, err := openRepository(a, r, registry.Options{Push: push})
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	if err := do(repo); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return nil
}

// registryOptions fills in how a registry is reached: with the log-in that is kept unless the options have
// one. What is tried again is told in notes of its own.
func registryOptions(a *app, r ref.Reference, o registry.Options) (_ registry.Options, err error) {
	a.asking(r)
	if o.Client, err = a.client(); err != nil {
		return o, err
	}
	o.BaseURL, o.Repository = r.BaseURL(), r.Repository
	if o.GetCredentials == nil {
		o.GetCredentials = func(ctx context.Context) (registry.Credentials, error) {
			return a.credentials(ctx, r)
		}
	}
	o.Logger = slog.New(newNoteHandler(a, new(notes)))
	o.StallTimeout, o.RetryTimeout = a.stallTimeout, a.retryTimeout
	return o, nil
}

// client returns a client that trusts as the flags say, or nil where the library's own does.
func (c *connection) client() (*http.Client, error) {
	if c.caFile == "" && c.certFile == "" && !c.insecure {
		return nil, nil
	}
	config := &tls.Config{InsecureSkipVerify: c.insecure}
	if c.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil { // the system has none to tell: the file alone is trusted
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s: %w", c.caFile, errNoCertificate)
		}
		config.RootCAs = pool
	}
	if c.certFile != "" {
		own, err := tls.LoadX509KeyPair(c.certFile, cmp.Or(c.keyFile, c.certFile))
		switch {
		case err != nil && c.keyFile == "" && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("--cert: %w; --key names the file with its key", err)
		case err != nil:
			return nil, fmt.Errorf("--cert: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	transport := wire.NewTransport(maxIdle)
	transport.TLSClientConfig = config
	return &http.Client{Transport: transport}, nil
}
