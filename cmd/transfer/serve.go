package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model/serve"
	"github.com/spf13/cobra"
)

// serveGrace is how long requests that are running may take to end when serve is interrupted.
const serveGrace = 5 * time.Second

// serveOptions are the flags that only serve has.
type serveOptions struct {
	listen    string
	readOnly  bool
	hosts     []string
	cert, key string
}

func serveCommand(a *app) *cobra.Command {
	var o serveOptions
	c := dirCommand("serve", "Run a small registry that keeps all in a directory",
		"Serve runs a registry for this machine or a local network until it is interrupted. It keeps "+
			"blobs and manifests in DIR and knows no users: whoever reaches it may push, unless it is "+
			"--read-only. It does not answer web pages of other sites nor, on a loopback address, to names "+
			"that are not this machine's.",
		"  transfer serve ./registry\n"+
			"  transfer push ./model localhost:5000/me/model\n"+
			"  transfer serve --listen :5000 --read-only ./registry",
		func(ctx context.Context, dir string) error { return serveDir(ctx, a, dir, o) })
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(
		&o.listen, "listen", "127.0.0.1:5000",
		"listen at this `ADDRESS`; :5000 is every address of this machine",
	)
	fs.BoolVar(&o.readOnly, "read-only", false, "take nothing")
	fs.StringArrayVar(
		&o.hosts, "host", nil, "answer to this further `NAME` of this machine; more than one may be given",
	)
	fs.StringVar(&o.cert, "tls-cert", "", "speak https with the certificate in this PEM `FILE`")
	fs.StringVar(&o.key, "tls-key", "", "and the key in this PEM `FILE`")
	return c
}

// serveDir runs a registry until the context ends.
func serveDir(ctx context.Context, a *app, dir string, o serveOptions) error {
	scheme, config, err := o.protocol()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	url := scheme + "://" + listener.Addr().String()
	s, err := newServer(dir, serve.Options{ReadOnly: o.readOnly, Hosts: o.hosts}, url)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if a.verbose {
		s.http.Handler = logRequests(a.stderr, s.http.Handler)
	}
	if a.json {
		a.event("serving", field{"dir", dir}, field{"url", url})
	}
	a.say("serving %s at %s; Ctrl-C ends it", dir, url)
	return s.serveUntil(ctx, listener, config)
}

// serveUntil answers requests, by https where there is a configuration for it, until the context ends.
func (s *server) serveUntil(ctx context.Context, listener net.Listener, config *tls.Config) error {
	failed := make(chan error, 1) // has space for the error that nobody waits for once the context has ended
	go func() {
		defer close(s.served)
		if config != nil {
			s.http.TLSConfig = config
			failed <- s.http.ServeTLS(listener, "", "")
			return
		}
		failed <- s.http.Serve(listener)
	}()
	select {
	case err := <-failed:
		s.close()
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveGrace)
	defer cancel()
	_ = s.http.Shutdown(grace) // close ends what takes longer
	s.close()
	return nil
}

// protocol returns the scheme to serve and, for https, the certificate.
func (o serveOptions) protocol() (scheme string, config *tls.Config, err error) {
	switch {
	case (o.cert == "") != (o.key == ""):
		return "", nil, usagef("--tls-cert and --tls-key go together")
	case o.cert == "":
		return "http", nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return "", nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	return "https", &tls.Config{Certificates: []tls.Certificate{pair}}, nil
}

// logRequests writes a line for each request.
func logRequests(w io.Writer, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		next.ServeHTTP(rw, r)
		fmt.Fprintf(w, "%s %s %s %.1f ms\n", r.RemoteAddr, r.Method, printable.Text(r.URL.Path),
			float64(time.Since(start).Microseconds())/1000)
	})
}
