package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// The directions of a link, as toxiproxy calls them: to the registry, and from it.
const (
	upstream   = "upstream"
	downstream = "downstream"
)

// toxic is a fault of a link in one direction, as toxiproxy reads it.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float32          `json:"toxicity"` // the share of connections that have it
	Attributes map[string]int64 `json:"attributes"`
}

// link is a toxiproxy in front of a registry, and a client that counts what it moves over it.
type link struct {
	url    string
	client *http.Client
	proxy  *toxiproxy.Proxy

	dials, read, written atomic.Int64 // connections, and bytes with those of headers
	failures             failures
	trap                 atomic.Pointer[trap]
}

// trap is a call to make before more than so many bytes are written.
type trap struct {
	after int64
	call  func()
}

// newLink stands in front of s until the test ends.
func newLink(t testing.TB, s *server) *link {
	t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", u.Host)}
	require.NoError(t, l.proxy.Start())
	l.url = "http://" + l.proxy.Listen
	transport := &http.Transport{
		DialContext: l.dial, DisableCompression: true,
		MaxIdleConnsPerHost:   transfer.DefaultDownloadConcurrency,
		ExpectContinueTimeout: time.Second,
	}
	l.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		l.proxy.Stop()
	})
	return l
}

// add adds a toxic to the connections that there are and to those that follow.
func (l *link) add(t testing.TB, x toxic) {
	t.Helper()
	data, err := json.Marshal(x)
	require.NoError(t, err)
	_, err = l.proxy.Toxics.AddToxicJson(bytes.NewReader(data))
	assert.NoError(t, err)
}

// set changes the toxicity of a toxic, for the connections that there are too.
func (l *link) set(t testing.TB, name string, toxicity float32) {
	t.Helper()
	update := strings.NewReader(fmt.Sprintf(`{"toxicity":%g}`, toxicity))
	_, err := l.proxy.Toxics.UpdateToxicJson(name, update)
	assert.NoError(t, err)
}

// remove takes a toxic away. Connections that have lost data by it are closed.
func (l *link) remove(t testing.TB, name string) {
	t.Helper()
	assert.NoError(t, l.proxy.Toxics.RemoveToxic(context.Background(), name))
}

// before has call made once, when n bytes were written to the link and before more are. Who
// writes waits for it.
func (l *link) before(n int64, call func()) {
	l.trap.Store(&trap{after: n, call: sync.OnceFunc(call)})
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	// What lies in a large buffer would count as sent, long before the other side has it.
	if err := c.(*net.TCPConn).SetWriteBuffer(64 * kib); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	l.dials.Add(1)
	return &linkConn{Conn: c, link: l}, nil
}

type linkConn struct {
	net.Conn
	link *link
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.link.read.Add(int64(n))
	return n, err
}

func (c *linkConn) Write(p []byte) (int, error) {
	if trap := c.link.trap.Load(); trap != nil && c.link.written.Load() >= trap.after {
		trap.call()
	}
	n, err := c.Conn.Write(p)
	c.link.written.Add(int64(n))
	return n, err
}

// failures is a log handler that remembers why attempts failed.
type failures struct {
	mu     sync.Mutex // guards the fields that follow
	all    []error
	awaits error
	left   int // of those that match what is awaited
	call   func()
}

var _ slog.Handler = (*failures)(nil)

func (f *failures) logger() *slog.Logger { return slog.New(f) }

// then has call made once n attempts have failed with what matches target, all where that is nil.
// The last of them is not tried again before call returns.
func (f *failures) then(n int, target error, call func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.awaits, f.left, f.call = target, n, call
}

// matching returns the failures that match target, or all where that is nil.
func (f *failures) matching(target error) (found []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.all {
		if matches(err, target) {
			found = append(found, err)
		}
	}
	return found
}

func matches(err, target error) bool { return target == nil || errors.Is(err, target) }

func (f *failures) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (f *failures) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			f.add(err)
		}
		return true
	})
	return nil
}

func (f *failures) add(err error) {
	f.mu.Lock()
	f.all = append(f.all, err)
	reached := false
	if f.call != nil && matches(err, f.awaits) {
		f.left--
		reached = f.left == 0
	}
	call := f.call
	f.mu.Unlock()
	if reached {
		call()
	}
}

func (f *failures) WithAttrs([]slog.Attr) slog.Handler { return f }

func (f *failures) WithGroup(string) slog.Handler { return f }
