package statemachine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const repository = "library/model"

// patience is how long a call may take, in faked time. The slowest fault lets 200 KiB pass in a second.
const patience = 3 * time.Hour

// The options of all calls.
const (
	stallTimeout = 5 * time.Second
	retryTimeout = 30 * time.Second
)

// manyRequests is more than a step may need: up to three calls, six blobs, seven pieces, and each of
// the faults leads to a few more.
const manyRequests = 3000

var (
	errCancelled = errors.New("cancelled by the test")
	errKilled    = errors.New("killed by the test")
)

func TestStateMachine(t *testing.T) {
	made := &store{dir: t.TempDir()}
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScenario(rt)
		if wrong := run(t, made, s); wrong != "" {
			rt.Fatalf("%s\nin %s", wrong, s)
		}
	})
}

// TestGentleFaultsCostLittle has calls tried again after faults that destroy nothing, as a person does
// on a bad link.
func TestGentleFaultsCostLittle(t *testing.T) {
	made := &store{dir: t.TempDir()}
	rapid.Check(t, func(rt *rapid.T) {
		s := drawGentle(rt)
		if wrong := run(t, made, s); wrong != "" {
			rt.Fatalf("%s\nin %s", wrong, s)
		}
	})
}

// TestSlowLinksGetOn has calls cut short again and again on slow links, where blobs wait for minutes, signed
// URLs and tokens end meanwhile, and other calls hold the blobs.
func TestSlowLinksGetOn(t *testing.T) {
	made := &store{dir: t.TempDir()}
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSlow(rt)
		if wrong := run(t, made, s); wrong != "" {
			rt.Fatalf("%s\nin %s", wrong, s)
		}
	})
}

// store has the content of all blobs, and a file of each, which are made once.
type store struct {
	dir   string
	blobs map[string][]byte
}

// blob returns the content of a blob and the file that has it.
func (s *store) blob(number, size int) ([]byte, string) {
	path := filepath.Join(s.dir, fmt.Sprint(number, "-", size))
	data, ok := s.blobs[path]
	if !ok {
		data = make([]byte, size)
		if size < modelSize {
			_, _ = rand.NewChaCha8([32]byte{byte(number)}).Read(data)
		} else {
			model(number, data)
		}
		if s.blobs == nil {
			s.blobs = map[string][]byte{}
		}
		s.blobs[path] = data
		if err := os.WriteFile(path, data, 0o644); err != nil {
			panic(err)
		}
	}
	return data, path
}

// machine is the world of one scenario.
type machine struct {
	scenario
	t      *testing.T
	pulses [2]pulse // of downloads and uploads
	disk
	cargo
	servers
	outcome
}

// disk is where files are.
type disk struct {
	top   string       // has the directories, and nothing else may appear there
	aside string       // where the disk is copied when a process is killed
	old   string       // has what downloads may take bytes from
	olds  atomic.Int32 // how many that were
	full  bool         // the disk of the downloads has little space
}

// cargo is what is moved.
type cargo struct {
	made     *store
	blobs    []transfer.Blob
	remote   []bool            // those that the registry has from the beginning
	contents map[string][]byte // by final name
}

// servers are what answers the calls.
type servers struct {
	net       *registrytest.Network
	client    *http.Client
	reg       *registrytest.Registry
	mirror    *registrytest.Registry
	store     *registrytest.CDN
	node      *registrytest.CDN         // one of three that serve blobs, and not a good one
	objects   *registrytest.ObjectStore // of an Ollama registry, or nil
	url       string
	mirrorURL string
	tokens    tokens
	hosts     int // numbers those of holders
}

// outcome is what has become of the calls.
type outcome struct {
	ends       []error    // of each
	left       [][]string // in the directory of the downloads, after each step
	lost       int64      // bytes that may be fetched again
	sessions   int64      // and those that may be sent again
	disturbed  bool       // there were faults, damage or cancelled calls
	violations []string
}

// run returns what went wrong first.
func run(t *testing.T, made *store, s scenario) (wrong string) {
	return inWorld(t, made, s, (*machine).runAll)
}

// inWorld has do something in the world of a scenario, and returns what do returns.
func inWorld(t *testing.T, made *store, s scenario, do func(m *machine) (wrong string)) (wrong string) {
	ended := false
	defer func() {
		if !ended { // synctest panics when a goroutine is left, or all wait for ever
			fmt.Fprintln(os.Stderr, "panic in", s)
		}
	}()
	top, aside, old := t.TempDir(), t.TempDir(), t.TempDir()
	defer os.RemoveAll(top)
	defer os.RemoveAll(old)
	defer unmountDisk(filepath.Join(top, "dest"))
	for _, place := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(place, filepath.Join(top, "cache"))
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, made, s, top)
		m.aside, m.old, m.made = aside, old, made
		wrong = do(m)
	})
	ended = true
	return wrong
}

// runAll does all steps, and then moves what is missing at either end.
func (m *machine) runAll() (wrong string) {
	for i, st := range m.Steps {
		for range 1 + st.Again {
			m.step(st)
		}
		if len(m.violations) > 0 {
			return fmt.Sprintf("step %d: %s", i, strings.Join(m.violations, "\n"))
		}
	}
	if m.full {
		m.must(growDisk(filepath.Join(m.top, "dest")))
		m.full = false
	}
	all := slices.Repeat([]bool{true}, len(m.scenario.Blobs))
	m.step(step{Calls: []call{{Upload: true, Blobs: all, Manifest: true}}})
	m.step(step{Calls: []call{{Blobs: all}}})
	m.onlyBlobs()
	m.checkCost()
	return strings.Join(m.violations, "\n")
}

func newMachine(t *testing.T, made *store, s scenario, top string) *machine {
	n := registrytest.NewNetwork(t)
	m := &machine{scenario: s, t: t}
	m.top, m.contents = top, map[string][]byte{}
	m.net, m.client = n, &http.Client{Transport: n.Transport()}
	m.reg = registrytest.New(s.Options)
	m.mirror = registrytest.New(registrytest.Options{Latency: time.Millisecond})
	m.store, m.node = m.reg.CDN(), m.reg.CDN()
	m.serve()
	if s.Ollama != "" {
		how := registrytest.Ollama{Direct: s.Ollama == "direct"}
		m.objects = m.reg.ServeOllama(n, "objects.test", s.Mode, how)
	}
	for _, name := range []string{"source", "dest", "cache"} {
		m.must(os.Mkdir(filepath.Join(top, name), 0o755))
	}
	if s.Space > 0 {
		m.full = mountDisk(filepath.Join(top, "dest"), s.Space)
	}
	m.must(os.WriteFile(filepath.Join(top, "victim"), []byte("victim"), 0o644))
	for i, b := range s.Blobs {
		data, file := made.blob(i, b.Size)
		dg := digest.FromBytes(data)
		final := strings.Replace(dg.String(), ":", "-", 1)
		if m.contents[final] != nil { // all blobs without a byte are the same one
			continue
		}
		m.contents[final] = data
		if b.Size >= modelSize {
			made.older(i, b.Size) // now, because calls are made at the same time
		}
		m.must(os.Link(file, filepath.Join(top, "source", final)))
		m.blobs = append(m.blobs, transfer.Blob{Digest: dg.String(), Size: int64(b.Size)})
		m.remote = append(m.remote, b.Remote)
		if b.Remote {
			m.reg.Put(repository, data)
		}
		switch i % 3 {
		case 0:
			m.mirror.Put(repository, data)
			m.reg.Put("library/other", data)
		case 1:
			m.mirror.Replace(repository, dg, bytes.Repeat([]byte("x"), b.Size))
		}
	}
	return m
}

// serve gives the servers their hosts, their habits and the link.
func (m *machine) serve() {
	l := &link{speed: m.Link, taken: m.pulses[up].beat}
	host := func(name string, h http.Handler) string { return m.net.Serve(name, l.over(h), m.Mode).URL }
	m.mirrorURL = host("mirror.test", m.mirror)
	if m.Direct {
		m.url = host("registry.test", m.Habits.behind(m.reg, m.node))
	} else {
		m.url = host("registry.test", m.reg)
		place := host("store.test", m.Habits.behind(m.store, m.node))
		m.reg.Configure(func(o *registrytest.Options) {
			o.Redirect, o.RedirectUploads = registrytest.To(place), registrytest.To(place)
		})
	}
	m.Habits.adopt(m.reg)
	m.tokens = tokens{habits: m.Habits, secret: m.Options.Token, begun: time.Now()}
	m.tokens.adopt(m.reg)
}

func (m *machine) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

// holds notes what is wrong unless ok.
func (m *machine) holds(ok bool, format string, args ...any) {
	if !ok {
		m.violations = append(m.violations, fmt.Sprintf(format, args...))
	}
}

func (m *machine) step(st step) {
	for _, d := range st.Damage {
		m.damage(d)
	}
	var scripts []*registrytest.Script
	for _, f := range st.Faults {
		if f.Store {
			scripts = append(scripts, m.store.Fault(f.Method, "", f.Script))
		} else {
			scripts = append(scripts, m.reg.Fault(f.Method, "", f.Script))
		}
	}
	m.sessions += m.sentAfter(st)
	m.lost += m.lostAnyway(st)
	remote := slices.Clone(m.remote)
	requests, sent := len(m.reg.Requests()), m.sentInAll()
	begun := time.Now()
	end := m.hold(st.Holder)
	results, dead := m.calls(st)
	end()
	m.client.CloseIdleConnections() // or an answer to a HEAD stalls for ever, though the client has all of it
	m.reg.Wait()
	m.store.Wait()
	m.node.Wait()
	if m.objects != nil {
		m.objects.Wait()
	}
	m.holds(time.Since(begun) < patience, "it took %s", time.Since(begun))
	m.holds(len(m.reg.Requests())-requests < manyRequests, "%d requests", len(m.reg.Requests())-requests)
	if dead {
		m.restore()
		m.lost += m.lostByKill()
	}
	for i := range results {
		m.ends = append(m.ends, results[i].err)
		if st.Calls[i].Upload && (dead || results[i].err != nil) {
			m.sessions += m.sentAnew()
		}
		if r := &results[i]; !dead || r.at < st.Kill {
			m.checkResult(st, st.Calls[i], r, remote)
		}
		m.disturbed = m.disturbed || dead
	}
	m.checkMoved(st, results, m.sentInAll()-sent)
	m.checkWaits()
	m.left = append(m.left, names(filepath.Join(m.top, "dest")))
	m.checkFiles()
	m.checkSecrets()
	for _, s := range scripts {
		s.Stop()
	}
}

// calls makes the calls of a step at the same time. It returns whether their process was killed.
func (m *machine) calls(st step) (results []result, dead bool) {
	ctx, kill := context.WithCancelCause(m.t.Context())
	defer kill(nil)
	if st.Kill > 0 {
		defer after(st.Kill, func() {
			m.snapshot()
			dead = true
			kill(errKilled)
		})()
	}
	defer m.breakOff(st.Outage)()
	defer m.fill(st.Fill)()
	defer m.leave(st.Away)()
	begun := time.Now()
	m.pulses[down].begin()
	m.pulses[up].begin()
	results = make([]result, len(st.Calls))
	var wg sync.WaitGroup
	for i, c := range st.Calls {
		wg.Go(func() {
			m.call(ctx, c, &results[i])
			results[i].at = time.Since(begun)
		})
	}
	wg.Wait()
	return results, dead
}

// after calls f then. What it returns stops that, or waits for it.
func after(then time.Duration, f func()) (stop func()) {
	called := make(chan struct{})
	timer := time.AfterFunc(then, func() {
		defer close(called)
		f()
	})
	return func() {
		if !timer.Stop() {
			<-called
		}
	}
}

// fill has others take the space that is left on the disk of the downloads. What it returns ends that.
func (m *machine) fill(then time.Duration) (end func()) {
	if then == 0 || !m.full {
		return func() {}
	}
	dest := filepath.Join(m.top, "dest")
	stop := after(then, func() { m.must(shrinkDisk(dest)) })
	return func() {
		stop()
		m.must(growDisk(dest))
	}
}

// breakOff has a host be away for a time. What it returns ends that.
func (m *machine) breakOff(o outage) (end func()) {
	if o.Host == "" {
		return func() {}
	}
	var err error = &net.DNSError{Err: o.How, Name: o.Host, IsNotFound: o.How == "no such host",
		IsTemporary: o.How == "server misbehaving"}
	if o.How == "refused" {
		err = registrytest.Refused()
	}
	begin := after(o.At, func() {
		m.net.Down(o.Host, err)
		m.client.CloseIdleConnections()
		if o.Breaks {
			m.reg.Fault("", "", "hangup")
		}
	})
	over := after(o.At+o.Lasts, func() { m.net.Down(o.Host, nil) })
	return func() {
		begin()
		over()
		m.net.Down(o.Host, nil)
	}
}

// leave has the server of tokens be away for a time. What it returns ends that.
func (m *machine) leave(a away) (end func()) {
	if a.Lasts == 0 {
		return func() {}
	}
	begin := after(a.At, func() { m.tokens.away.Store(true) })
	over := after(a.At+a.Lasts, func() { m.tokens.away.Store(false) })
	return func() {
		begin()
		over()
		m.tokens.away.Store(false)
	}
}

// result is what came of a call.
type result struct {
	err    error
	at     time.Duration // when it returned
	blobs  []int
	served int64
	traced traced

	mu       sync.Mutex // guards the fields that follow; it is never waited for in progress
	returned bool
	after    bool       // Progress was called after the return, or twice at once
	calls    [][2]int64 // of Progress
	pulse    *pulse     // of all calls in this direction
}

func (r *result) progress(completed, total int64) {
	if !r.mu.TryLock() {
		r.after = true
		return
	}
	defer r.mu.Unlock()
	r.after = r.after || r.returned
	r.calls = append(r.calls, [2]int64{completed, total})
	r.pulse.beat()
}

func (m *machine) call(ctx context.Context, c call, r *result) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c.Cancel > 0 {
		defer time.AfterFunc(c.Cancel, func() { cancel(errCancelled) }).Stop()
	}
	var list []transfer.Blob
	for i, b := range m.blobs {
		if c.Blobs[i] {
			if c.Mount {
				b.From = "library/other"
			}
			list, r.blobs = append(list, b), append(r.blobs, i)
		}
	}
	r.pulse = &m.pulses[down]
	if c.Upload {
		r.pulse = &m.pulses[up]
		r.err = transfer.Upload(ctx, m.uploadOptions(c, list, r))
	} else {
		opts := m.downloadOptions(c, list, r)
		var end func()
		opts.Reuse, end = m.reuse(c)
		before := m.served()
		r.err = transfer.Download(ctx, opts)
		r.served = m.served() - before
		end()
	}
	r.traced.end()
	r.pulse.look()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned = true
}

func (m *machine) uploadOptions(c call, list []transfer.Blob, r *result) transfer.UploadOptions {
	opts := transfer.UploadOptions{
		Blobs: list, BaseURL: m.url, SrcDir: filepath.Join(m.top, "source"), Repository: repository,
		Client:      m.client,
		Concurrency: c.Concurrency, BodyConcurrency: c.Bodies, MaxBytesPerSecond: c.Cap, Progress: r.progress,
		GetToken:     m.tokens.get,
		StallTimeout: stallTimeout, RetryTimeout: retryTimeout, Trace: r.traced.trace(),
	}
	if c.Manifest {
		opts.Manifest, opts.ManifestRef = manifestOf(list), "latest"
	}
	return opts
}

func (m *machine) downloadOptions(c call, list []transfer.Blob, r *result) transfer.DownloadOptions {
	opts := transfer.DownloadOptions{
		Blobs: list, BaseURL: m.url, DestDir: filepath.Join(m.top, "dest"), Repository: repository,
		Client:      m.client,
		Concurrency: c.Concurrency, BodyConcurrency: c.Bodies, MaxBytesPerSecond: c.Cap, Verify: c.Verify,
		Progress: r.progress, GetToken: m.tokens.get,
		StallTimeout: stallTimeout, RetryTimeout: retryTimeout, Trace: r.traced.trace(),
	}
	if c.Mirror {
		opts.Mirrors = []string{m.mirrorURL}
	}
	return opts
}

// requests returns what the servers of the registry were asked so far.
func (m *machine) requests() []registrytest.Request {
	return slices.Concat(m.reg.Requests(), m.store.Requests(), m.node.Requests())
}

// served returns how many bytes of blobs the servers of the registry have sent so far.
func (m *machine) served() int64 { return sentBodies(m.requests()) }

// sentInAll returns how many bytes of blobs all servers have sent so far.
func (m *machine) sentInAll() int64 { return m.served() + sentBodies(m.mirror.Requests()) }

// sentBodies returns how many bytes of blobs were sent in answer to requests.
func sentBodies(requests []registrytest.Request) (n int64) {
	for _, r := range requests {
		served := r.Status == http.StatusOK || r.Status == http.StatusPartialContent
		if r.Method == http.MethodGet && served {
			n += r.SentBytes
		}
	}
	return n
}

func manifestOf(blobs []transfer.Blob) []byte {
	var layers []string
	for _, b := range blobs {
		layers = append(layers, fmt.Sprintf(`{"digest":%q,"size":%d}`, b.Digest, b.Size))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"layers":[%s]}`, strings.Join(layers, ","))
}
