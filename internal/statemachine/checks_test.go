package statemachine

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
)

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
