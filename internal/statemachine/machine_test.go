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
	"syscall"
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
		_, _ = rand.NewChaCha8([32]byte{byte(number)}).Read(data)
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
	t          *testing.T
	top        string // has the directories, and nothing else may appear there
	aside      string // where the disk is copied when a process is killed
	full       bool   // the disk of the downloads has little room
	net        *registrytest.Network
	client     *http.Client
	reg        *registrytest.Registry
	mirror     *registrytest.Registry
	store      *registrytest.CDN
	objects    *registrytest.ObjectStore // of an Ollama registry, or nil
	url        string
	mirrorURL  string
	blobs      []transfer.Blob
	contents   map[string][]byte // by final name
	remote     []bool
	ends       []error    // of the calls
	left       [][]string // in the directory of the downloads, after each step
	brokenOff  int        // uploads that failed
	disturbed  bool       // there were faults, damage or cancelled calls
	violations []string
}

// run returns what went wrong first.
func run(t *testing.T, made *store, s scenario) (wrong string) {
	ended := false
	defer func() {
		if !ended { // synctest panics when a goroutine is left, or all wait for ever
			fmt.Fprintln(os.Stderr, "panic in", s)
		}
	}()
	top, aside := t.TempDir(), t.TempDir()
	defer os.RemoveAll(top)
	defer unmountDisk(filepath.Join(top, "dest"))
	for _, place := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(place, filepath.Join(top, "cache"))
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, made, s, top)
		m.aside = aside
		for i, st := range s.Steps {
			m.step(st)
			if len(m.violations) > 0 {
				wrong = fmt.Sprintf("step %d: %s", i, strings.Join(m.violations, "\n"))
				return
			}
		}
		if m.full {
			m.must(growDisk(filepath.Join(top, "dest")))
			m.full = false
		}
		all := slices.Repeat([]bool{true}, len(s.Blobs))
		m.step(step{Calls: []call{{Upload: true, Blobs: all, Manifest: true}}})
		m.step(step{Calls: []call{{Blobs: all}}})
		m.onlyBlobs()
		m.checkCost()
		wrong = strings.Join(m.violations, "\n")
	})
	ended = true
	return wrong
}

func newMachine(t *testing.T, made *store, s scenario, top string) *machine {
	n := registrytest.NewNetwork(t)
	m := &machine{
		scenario: s, t: t, top: top, net: n, client: &http.Client{Transport: n.Transport()},
		reg:    registrytest.New(s.Options),
		mirror: registrytest.New(registrytest.Options{Latency: time.Millisecond}), contents: map[string][]byte{},
	}
	m.store = m.reg.CDN()
	m.url = n.Serve("registry.test", m.reg, s.Mode).URL
	m.mirrorURL = n.Serve("mirror.test", m.mirror, s.Mode).URL
	place := n.Serve("store.test", m.store, s.Mode).URL
	if !s.Direct {
		m.reg.Configure(func(o *registrytest.Options) {
			o.Redirect, o.RedirectUploads = registrytest.To(place), registrytest.To(place)
		})
	}
	if s.Ollama != "" {
		m.objects = m.reg.ServeOllama(n, "objects.test", s.Mode, registrytest.Ollama{Direct: s.Ollama == "direct"})
	}
	for _, name := range []string{"source", "dest", "cache"} {
		m.must(os.Mkdir(filepath.Join(top, name), 0o755))
	}
	if s.Room > 0 {
		m.full = mountDisk(filepath.Join(top, "dest"), s.Room)
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
	remote := slices.Clone(m.remote)
	requests := len(m.reg.Requests())
	begun := time.Now()
	results, dead := m.calls(st)
	m.client.CloseIdleConnections() // or an answer to a HEAD stalls for ever, though the client has all of it
	m.reg.Wait()
	m.store.Wait()
	if m.objects != nil {
		m.objects.Wait()
	}
	m.holds(time.Since(begun) < patience, "it took %s", time.Since(begun))
	m.holds(len(m.reg.Requests())-requests < manyRequests, "%d requests", len(m.reg.Requests())-requests)
	if dead {
		m.restore()
	}
	for i := range results {
		m.ends = append(m.ends, results[i].err)
		if st.Calls[i].Upload && (dead || results[i].err != nil) {
			m.brokenOff++
		}
		if r := &results[i]; !dead || r.at < st.Kill {
			m.checkResult(st, st.Calls[i], r, remote)
		}
		m.disturbed = m.disturbed || dead
	}
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
	begun := time.Now()
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

// fill has others take the room that is left on the disk of the downloads. What it returns ends that.
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

// result is what came of a call.
type result struct {
	err    error
	at     time.Duration // when it returned
	blobs  []int
	served int64

	mu       sync.Mutex // guards the fields that follow; it is never waited for in progress
	returned bool
	after    bool       // Progress was called after the return, or twice at once
	calls    [][2]int64 // of Progress
}

func (r *result) progress(completed, total int64) {
	if !r.mu.TryLock() {
		r.after = true
		return
	}
	defer r.mu.Unlock()
	r.after = r.after || r.returned
	r.calls = append(r.calls, [2]int64{completed, total})
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
	if c.Upload {
		r.err = transfer.Upload(ctx, m.uploadOptions(c, list, r))
	} else {
		before := m.served()
		r.err = transfer.Download(ctx, m.downloadOptions(c, list, r))
		r.served = m.served() - before
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned = true
}

func (m *machine) uploadOptions(c call, list []transfer.Blob, r *result) transfer.UploadOptions {
	opts := transfer.UploadOptions{
		Blobs: list, BaseURL: m.url, SrcDir: filepath.Join(m.top, "source"), Repository: repository,
		Client:      m.client,
		Concurrency: c.Concurrency, BodyConcurrency: c.Bodies, MaxBytesPerSecond: c.Cap, Progress: r.progress,
		GetToken:     m.getToken,
		StallTimeout: 5 * time.Second, RetryTimeout: 30 * time.Second,
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
		Progress: r.progress, GetToken: m.getToken,
		StallTimeout: 5 * time.Second, RetryTimeout: 30 * time.Second,
	}
	if c.Mirror {
		opts.Mirrors = []string{m.mirrorURL}
	}
	return opts
}

func (m *machine) getToken(context.Context, transfer.AuthChallenge) (string, error) {
	return m.Options.Token, nil
}

// served returns how many bytes of blobs were sent so far.
func (m *machine) served() (n int64) {
	for _, r := range slices.Concat(m.reg.Requests(), m.store.Requests()) {
		if r.Method == http.MethodGet && (r.Status == http.StatusOK || r.Status == http.StatusPartialContent) {
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

// checkResult checks a call, before which the registry had the blobs marked as remote.
func (m *machine) checkResult(st step, c call, r *result, remote []bool) {
	m.checkProgress(r)
	quiet := len(st.Faults) == 0 && st.Fill == 0 && c.Cancel == 0 && st.Kill == 0 && st.Outage.Host == ""
	switch {
	case r.err == nil && c.Upload:
		for _, i := range r.blobs {
			there := m.reg.Has(repository, digest.Digest(m.blobs[i].Digest))
			m.holds(there || lying(st), "the registry lacks %s, though the upload returned nil", m.blobs[i].Digest)
			m.remote[i] = m.remote[i] || there
		}
	case r.err == nil:
		for _, i := range r.blobs {
			got, err := os.ReadFile(m.final(i))
			m.holds(err == nil && bytes.Equal(got, m.content(i)),
				"not in place after the download returned nil: %s (%v)", m.blobs[i].Digest, err)
		}
	default:
		m.checkError(r.err)
		available := !slices.ContainsFunc(r.blobs, func(i int) bool { return !remote[i] })
		m.holds(!quiet || !c.Upload && !available || !c.Upload && m.full && noRoom(r.err),
			"nothing was in the way, but: %v", r.err)
	}
	if quiet && !c.Upload && !c.Mirror && !m.disturbed && len(st.Calls) == 1 && len(r.calls) > 0 {
		missing := r.calls[0][1] - r.calls[0][0]
		m.holds(r.served <= missing || r.err != nil, "%d bytes were missing, %d were sent", missing, r.served)
	}
	m.disturbed = m.disturbed || !quiet
}

// noRoom tells whether an error says that the disk is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, transfer.ErrInsufficientSpace)
}

// mostMoved is how often the bytes of a blob may be moved where no fault destroys what has arrived.
const mostMoved = 1.3

// checkCost checks that what has arrived of a large blob, at either end, was not moved again.
func (m *machine) checkCost() {
	if !m.Gentle {
		return
	}
	large := m.blobs[0]
	down, up := m.moved(large)
	most := int64(mostMoved * float64(large.Size))
	m.holds(down <= most, "%d bytes were sent of a blob of %d, with calls that ended %q and files %q",
		down, large.Size, m.ends, m.left)
	if !m.Direct { // a session in a store is not kept for a later call
		most += int64(m.brokenOff) * large.Size
	}
	m.holds(up <= most, "%d bytes were taken of a blob of %d, with calls that ended %q", up, large.Size, m.ends)
}

// moved returns how many bytes of a blob were sent to the client, and how many of any blob it has sent.
func (m *machine) moved(b transfer.Blob) (down, up int64) {
	for _, r := range slices.Concat(m.reg.Requests(), m.store.Requests()) {
		switch {
		case r.Method == http.MethodGet && r.Status < 300 && strings.Contains(r.Path, b.Digest):
			down += r.SentBytes
		case strings.Contains(r.Path, "/uploads/"):
			up += r.BodyBytes
		}
	}
	return down, up
}

// lying tells whether a fault can make an upload look as if it had come to a good end.
func lying(st step) bool {
	return slices.ContainsFunc(st.Faults, func(f fault) bool {
		return slices.ContainsFunc([]string{"*20", "*304", "*302"},
			func(lie string) bool { return strings.Contains(f.Script, lie) })
	})
}

func (m *machine) final(i int) string {
	return filepath.Join(m.top, "dest", strings.Replace(m.blobs[i].Digest, ":", "-", 1))
}

func (m *machine) content(i int) []byte { return m.contents[filepath.Base(m.final(i))] }

// checkError checks that an error can be matched and tells no secret.
func (m *machine) checkError(err error) {
	var blobError *transfer.BlobError
	ended := errors.Is(err, errCancelled) || errors.Is(err, errKilled) || m.full && noRoom(err)
	m.holds(ended || errors.As(err, &blobError) || strings.HasPrefix(err.Error(), "manifest latest: "),
		"an error of no blob: %v", err)
	shown := strings.ReplaceAll(err.Error(), "sig=***", "")
	m.holds(!strings.Contains(shown, m.Options.Token) && !strings.Contains(shown, "sig="), "%v", err)
}

// checkProgress checks what Progress was told.
func (m *machine) checkProgress(r *result) {
	m.holds(!r.after, "Progress was called twice at once, or after the return")
	total := int64(0)
	for _, i := range r.blobs {
		total += m.blobs[i].Size
	}
	for _, call := range r.calls {
		m.holds(0 <= call[0] && call[0] <= call[1] && call[1] == total, "Progress%v, the blobs are %d", call, total)
	}
	if r.err == nil && len(r.blobs) > 0 {
		m.holds(len(r.calls) > 0 && r.calls[len(r.calls)-1][0] == total, "it ended with %v of %d", r.calls, total)
	}
}

// checkFiles checks that names hold what they promise, nothing else has changed, and nothing is open.
func (m *machine) checkFiles() {
	m.holds(slices.Equal(names(m.top), []string{"cache", "dest", "source", "victim"}), "%v", names(m.top))
	victim, err := os.ReadFile(filepath.Join(m.top, "victim"))
	m.holds(err == nil && string(victim) == "victim", "the victim is %.50q (%v)", victim, err)
	for _, dir := range []string{"dest", "source"} {
		for _, name := range names(filepath.Join(m.top, dir)) {
			path := filepath.Join(m.top, dir, name)
			want, final := m.contents[name]
			if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() || !final {
				continue
			}
			got, err := os.ReadFile(path)
			m.holds(err == nil && bytes.Equal(got, want), "a wrong file under the name %s (%v)", path, err)
		}
	}
	open, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range open {
		target, _ := os.Readlink(fd)
		m.holds(!strings.HasPrefix(target, m.top), "still open: %s", target)
	}
}

// checkSecrets checks that the token was shown to the registry only.
func (m *machine) checkSecrets() {
	m.holds(len(m.store.Tokens()) == 0, "the store was shown %v", m.store.Tokens())
	m.holds(len(m.mirror.Tokens()) == 0, "the mirror was shown %v", m.mirror.Tokens())
	if m.objects != nil {
		m.holds(len(m.objects.Tokens()) == 0, "the object store was shown %v", m.objects.Tokens())
	}
}

// onlyBlobs checks that nothing else is left when all have been downloaded.
func (m *machine) onlyBlobs() {
	for _, name := range names(filepath.Join(m.top, "dest")) {
		fi, err := os.Lstat(filepath.Join(m.top, "dest", name))
		m.holds(m.contents[name] != nil || err == nil && !fi.Mode().IsRegular(), "left behind: %s", name)
	}
}

func names(dir string) (all []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// damage does to a file what disks and people do. Blobs are only removed or replaced by a link: a final
// name is trusted.
func (m *machine) damage(d damage) {
	dest := filepath.Join(m.top, "dest")
	there := names(dest)
	if len(there) == 0 {
		return
	}
	name := there[d.Which%len(there)]
	path := filepath.Join(dest, name)
	fi, err := os.Lstat(path)
	_, final := m.contents[name]
	if err != nil || final && d.How != "remove" && d.How != "link" || !fi.Mode().IsRegular() {
		return
	}
	m.disturbed = true
	switch d.How {
	case "flip":
		m.change(path, d.At)
	case "cut":
		m.must(os.Truncate(path, int64(d.At)%(fi.Size()+1)))
	case "grow":
		m.must(os.Truncate(path, fi.Size()+int64(d.At)))
	case "empty":
		m.must(os.Truncate(path, 0))
	case "remove":
		m.must(os.Remove(path))
	case "rename to .tmp":
		m.must(os.Rename(path, filepath.Join(dest, strings.Split(name, ".")[0]+".tmp")))
	case "link":
		m.must(os.Remove(path))
		m.must(os.Symlink(filepath.Join(m.top, "victim"), path))
	}
}

// change flips a bit.
func (m *machine) change(path string, at int) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	m.must(err)
	defer f.Close()
	fi, err := f.Stat()
	m.must(err)
	if fi.Size() == 0 {
		return
	}
	var one [1]byte
	_, err = f.ReadAt(one[:], int64(at)%fi.Size())
	m.must(err)
	one[0] ^= 1
	_, err = f.WriteAt(one[:], int64(at)%fi.Size())
	m.must(err)
}
