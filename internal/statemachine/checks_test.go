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
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// checkResult checks a call, before which the registry had the blobs marked as remote.
func (m *machine) checkResult(st step, c call, r *result, remote []bool) {
	m.checkProgress(r)
	m.checkTrace(c, r)
	quiet := len(st.Faults) == 0 && st.Fill == 0 && c.Cancel == 0 && st.Kill == 0 && st.Outage.Host == "" &&
		st.Away.Lasts == 0
	switch {
	case r.err == nil && c.Upload:
		for _, i := range r.blobs {
			there := m.reg.Has(repository, digest.Digest(m.blobs[i].Digest))
			lie := lying(st) || m.Habits.Head == "lies" && !c.Manifest // a manifest brings it to light
			m.holds(there || lie, "the registry lacks %s, though the upload returned nil", m.blobs[i].Digest)
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
		m.holds(!quiet || !c.Upload && !available || !c.Upload && m.full && noSpace(r.err),
			"nothing was in the way, but: %v", r.err)
	}
	honest := m.Habits == (habits{}) && !c.Mirror && c.Reuse == "" // no byte has to be thrown away
	if quiet && len(st.Damage) == 0 && honest && !m.disturbed {
		for i := 1; i < len(r.calls); i++ {
			m.holds(r.calls[i-1][0] <= r.calls[i][0], "Progress goes backwards: %v", r.calls)
		}
	}
	if quiet && !c.Upload && !c.Mirror && !m.disturbed && m.Habits.Node == "" &&
		len(st.Calls) == 1 && len(r.calls) > 0 {
		missing := r.calls[0][1] - r.calls[0][0]
		most := missing
		if m.Link > 0 { // bodies that are called back have bytes on their way
			most = int64(mostMoved * float64(missing))
		}
		m.holds(r.served <= most || r.err != nil, "%d bytes were missing, %d were sent", missing, r.served)
	}
	m.disturbed = m.disturbed || !quiet
}

// noSpace tells whether an error says that the disk is full.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, transfer.ErrInsufficientSpace)
}

// mostMoved is how often the bytes of a blob may be moved where no fault destroys what has arrived.
const mostMoved = 1.3

// keptSize is that of the smallest blob of which a part is kept.
const keptSize = 64 * kibibyte

// checkCost checks that what has arrived of a blob that is kept, at either end, was not moved again.
func (m *machine) checkCost() {
	if !m.Gentle {
		return
	}
	all, kept := int64(0), int64(0)
	for _, b := range m.blobs {
		all += b.Size
		if b.Size >= keptSize {
			kept += b.Size
		}
	}
	down, up := m.moved()
	m.holds(down <= int64(mostMoved*float64(kept))+m.lost,
		"%d bytes were sent of blobs of %d, where %d were lost, calls ended %q with files %q",
		down, kept, m.lost, m.ends, m.left)
	m.holds(up <= int64(mostMoved*float64(all))+m.sessions,
		"%d bytes were taken of blobs of %d, where %d may be sent again, calls ended %q",
		up, all, m.sessions, m.ends)
}

// lostByKill returns how many bytes a killed process may lose: all but the last MiB or so of each body.
func (m *machine) lostByKill() (n int64) {
	for _, b := range m.blobs {
		n += min(b.Size, 5*mebibyte/4)
	}
	return n
}

// cheapSize is that of the smallest blob that is not asked for as a whole once a range was refused.
const cheapSize = 32 * mebibyte

// lostAnyway returns how many bytes may be fetched again in a step: because a node does not serve ranges, or
// because a call has left a file of its own beside that of a holder, and a later one goes on with the latter.
func (m *machine) lostAnyway(st step) int64 {
	all, largest := int64(0), int64(0)
	for _, b := range m.blobs {
		all += b.Size
		if b.Size < cheapSize {
			largest = max(largest, b.Size)
		}
	}
	refuses := func(f fault) bool { return strings.HasSuffix(f.Script, "416") }
	switch {
	case m.Habits.Node == "416", strings.HasPrefix(m.Habits.Node, "asked"), st.Holder != "":
		return all
	case slices.ContainsFunc(st.Faults, refuses):
		return int64(len(st.Faults)) * largest
	}
	return 0
}

// The sizes of the smallest blobs whose upload goes on where it was broken off, in the same call and in a
// later one.
const (
	resumeSize  = 8 * mebibyte
	sessionSize = 32 * mebibyte
)

// sentAnew returns how many bytes are sent again when an upload was broken off: the blobs that are sent
// whole, and all where the session is one of a store, which is not kept for a later call.
func (m *machine) sentAnew() (n int64) {
	for _, b := range m.blobs {
		if !m.Direct || b.Size < sessionSize {
			n += b.Size
		}
	}
	return n
}

// sentAfter returns how many bytes are sent again because of the faults of a step.
func (m *machine) sentAfter(st step) int64 {
	largest := int64(0)
	for _, b := range m.blobs {
		if b.Size < resumeSize {
			largest = max(largest, b.Size)
		}
	}
	faults := len(st.Faults)
	if st.Outage.Breaks {
		faults++
	}
	return int64(faults*mostTimes) * largest
}

// moved returns how many bytes were sent to the client of blobs that are kept, and how many of any it has
// sent.
func (m *machine) moved() (down, up int64) {
	for _, r := range m.requests() {
		kept := func(b transfer.Blob) bool { return b.Size >= keptSize && strings.Contains(r.Path, b.Digest) }
		switch {
		case r.Method == http.MethodGet && r.Status < 300 && slices.ContainsFunc(m.blobs, kept):
			down += r.SentBytes
		case strings.Contains(r.Path, "/uploads/"):
			up += r.BodyBytes
		}
	}
	return down, up
}

// checkMoved checks that the downloads of a step have not told of more bytes than all servers have sent. A
// handler in HTTP/2 is not told how much of a write was sent whose stream was reset.
func (m *machine) checkMoved(st step, results []result, sent int64) {
	told := int64(0)
	for i := range results {
		if !st.Calls[i].Upload {
			told += results[i].traced.moved()
		}
	}
	m.holds(told <= sent || m.Mode == registrytest.H2, "%d bytes have moved, and %d were sent", told, sent)
}

// longestWait is how long a call may go without a byte: as long as it tries, after it has waited for others,
// and until the last attempt has ended.
const longestWait = retryTimeout + 2*stallTimeout

// checkWaits checks that no call has waited for longer than its options say.
func (m *machine) checkWaits() {
	for i, of := range []string{"downloads", "uploads"} {
		m.holds(m.pulses[i].longest <= longestWait, "no byte of the %s moved for %s", of, m.pulses[i].longest)
	}
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
	ended := errors.Is(err, errCancelled) || errors.Is(err, errKilled) || m.full && noSpace(err)
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
		inOrder := 0 <= call[0] && call[0] <= call[1] && call[1] == total
		m.holds(inOrder, "Progress%v, the blobs are %d", call, total)
	}
	if r.err == nil && len(r.blobs) > 0 {
		all := len(r.calls) > 0 && r.calls[len(r.calls)-1][0] == total
		m.holds(all, "it ended with %v of %d", r.calls, total)
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
	m.holds(m.Direct || len(m.node.Tokens()) == 0, "a node of the store was shown %v", m.node.Tokens())
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
