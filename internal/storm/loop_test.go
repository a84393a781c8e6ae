//go:build linux && storm

package storm

import (
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const (
	repository = "library/_"

	// maxRuns bounds a loop. The steps between its moments grow, so that the last of them lies
	// behind the last call of a run.
	maxRuns = 15
)

// contents are blobs of which the first is fetched in pieces and worth continuing.
var contents = sync.OnceValue(func() [][]byte {
	random := rand.NewChaCha8([32]byte{2})
	var all [][]byte
	for _, size := range []int{33 << 20, 1 << 20, 70_000, 10, 0} {
		content := make([]byte, size)
		_, _ = random.Read(content)
		all = append(all, content)
	}
	return all
})

// arena is a registry and what it has.
type arena struct {
	reg   *registrytest.Registry
	url   string
	blobs []blob
}

func newArena(t *testing.T) *arena {
	a := &arena{reg: registrytest.New(registrytest.Options{})}
	for _, content := range contents() {
		a.blobs = append(a.blobs, blob{a.reg.Put(repository, content), int64(len(content))})
	}
	a.url = registrytest.Serve(t, a.reg, registrytest.H1).URL
	return a
}

func (a *arena) sandbox(t testing.TB) *sandbox { return newSandbox(t, a.url, a.blobs...) }

// recovery is the User-Agent that tells the requests of one puller from late ones of another that was killed.
const recovery = "recovery"

// recover runs a puller that nobody disturbs, after one that was, and makes sure that it fetches only what is
// missing. It has one worker: several take work from each other, and what was sent of it already is
// sent twice.
func (a *arena) recover(box *sandbox) {
	box.t.Helper()
	before := len(a.reg.Requests())
	missing := a.missing(box)
	box.pull("-concurrency", "1", "-agent", recovery)
	a.reg.Wait()
	sent := map[digest.Digest]int64{}
	for _, r := range a.reg.Requests()[before:] {
		if r.Header.Get("User-Agent") == recovery {
			sent[digest.Digest(path.Base(r.Path))] += r.SentBytes
		}
	}
	for dg, n := range sent {
		assert.LessOrEqual(box.t, n, missing[dg], "fetched again of %s", dg)
	}
	box.complete()
}

// missing returns how many bytes of each blob have to be fetched. A blob that is not listed is complete.
func (a *arena) missing(box *sandbox) map[digest.Digest]int64 {
	box.t.Helper()
	dir, err := blobstore.Open(box.dest)
	require.NoError(box.t, err)
	defer func() { require.NoError(box.t, dir.Close()) }()
	missing := map[digest.Digest]int64{}
	for _, b := range a.blobs {
		missing[b.digest] = b.size - dir.BytesOnDisk(b.digest, b.size)
	}
	for _, b := range box.check() {
		delete(missing, b.digest)
	}
	return missing
}

// moments calls f with growing numbers until it returns false, for a run in which nothing went wrong.
func moments(t *testing.T, f func(n int) bool) {
	n, runs := 1, 0
	for ; f(n); n = max(n+1, n*5/3) {
		runs++
		require.Less(t, runs, maxRuns, "the loop does not end")
	}
	require.NotZero(t, runs, "nothing went wrong")
	t.Logf("%d runs in which something went wrong, none with the %dth call", runs, n)
}

// failing are calls that fail. All are of the kind that no success may hide.
var failing = []struct {
	fault
	where   place
	message string
}{
	{fault{"write,pwrite64", "error=ENOSPC"}, anywhere, "no space left on device"},
	{fault{"write,pwrite64", "error=EIO"}, anywhere, "input/output error"},
	{fault{"fsync", "error=EIO"}, anywhere, "input/output error"},
	{fault{"fsync", "error=EIO"}, large, "input/output error"},
	{fault{"fsync", "error=EIO"}, directory, "input/output error"},
	{fault{"renameat,renameat2", "error=EIO"}, anywhere, "input/output error"},
	{fault{"renameat,renameat2", "error=EACCES"}, large, "permission denied"},
	{fault{"openat", "error=EACCES"}, created, "permission denied"},
	{fault{"mkdirat", "error=EACCES"}, anywhere, "permission denied"},
	{fault{"close", "error=EIO"}, data, "input/output error"},
	{fault{"close", "error=EIO"}, large, "input/output error"},
}

func TestS1S2FailingCalls(t *testing.T) {
	for _, f := range failing {
		for name, forEver := range map[string]bool{"once": false, "for ever": true} {
			t.Run(strings.Join([]string{f.calls, f.effect, f.where.name, name}, " "), func(t *testing.T) {
				t.Parallel()
				a := newArena(t)
				moments(t, func(n int) bool {
					box := a.sandbox(t)
					out := box.trace(f.where, f.inject(n, forEver)...)
					failed := out.injected()
					if !failed {
						require.Zero(t, out.code, out.stderr)
						box.complete()
						return false
					}
					require.Equal(t, 1, out.code, "call %d failed unnoticed", n)
					require.Contains(t, out.stderr, f.message)
					box.tidy(out.stderr)
					once(t, out)
					a.recover(box)
					return true
				})
			})
		}
	}
}

// TestS2CallsThatNeedNotSucceed has calls fail of which some are of no consequence, as when a file is
// closed that was only read: then all blobs are there.
func TestS2CallsThatNeedNotSucceed(t *testing.T) {
	for _, f := range []fault{
		{"openat", "error=EACCES"}, {"close", "error=EIO"}, {"unlinkat", "error=EIO"}, {"flock", "error=EIO"},
		{"newfstatat", "error=EIO"}, {"fstat", "error=EIO"},
		{"fcntl", "error=EMFILE"}, {"pread64", "error=EIO"},
	} {
		t.Run(f.calls+" "+f.effect, func(t *testing.T) {
			t.Parallel()
			a := newArena(t)
			moments(t, func(n int) bool {
				box := a.sandbox(t)
				out := box.trace(anywhere, f.inject(n, false)...)
				box.check()
				if out.code == 0 {
					box.complete()
					return out.injected()
				}
				require.True(t, out.injected(), out.stderr)
				a.recover(box)
				return true
			})
		})
	}
}

// TestS16SyncIsNotSupported has every fsync say that the file system knows no such thing, as
// some network file systems do.
func TestS16SyncIsNotSupported(t *testing.T) {
	for _, effect := range []string{"error=EINVAL", "error=EOPNOTSUPP"} {
		t.Run(effect, func(t *testing.T) {
			t.Parallel()
			box := newArena(t).sandbox(t)
			out := box.trace(anywhere, fault{"fsync", effect}.inject(1, true)...)
			require.Zero(t, out.code, out.stderr)
			require.True(t, out.injected())
			box.complete()
		})
	}
}

// TestS2WritebackNeedNotSucceed has every early writeback fail: the sync at the end writes all, and tells of
// errors.
func TestS2WritebackNeedNotSucceed(t *testing.T) {
	box := newArena(t).sandbox(t)
	out := box.trace(anywhere, fault{"sync_file_range", "error=EIO"}.inject(1, true)...)
	require.Zero(t, out.code, out.stderr)
	require.True(t, out.injected())
	box.complete()
}

// injected tells whether any call failed that should.
func (o outcome) injected() bool {
	for _, c := range o.calls {
		if c.injected() {
			return true
		}
	}
	return false
}

// tidy makes sure that a puller that ended by itself has left nothing but blobs and the partials of those
// that are kept, and nothing of a blob that its error names, unless the disk was full or the final name
// could not be given: then the blob is kept, however small.
func (s *sandbox) tidy(stderr string) {
	s.t.Helper()
	s.check()
	for _, name := range s.files() {
		final, _, half := strings.Cut(name, ".")
		if !half {
			continue
		}
		renamed := strings.Contains(stderr, ": rename ")
		i := slices.IndexFunc(s.blobs, func(b blob) bool { return b.name() == final })
		require.GreaterOrEqual(s.t, i, 0, "%s was left", name)
		assert.True(s.t, renamed || s.blobs[i].size >= blobstore.KeepThreshold, "%s was left", name)
		if !renamed && !strings.Contains(stderr, "no space left on device") {
			assert.NotContains(s.t, stderr, "download "+s.blobs[i].digest.String(), "%s was left", name)
		}
	}
}

// once makes sure that no file was synced again after that had failed.
func once(t *testing.T, out outcome) {
	t.Helper()
	failed := map[string]bool{}
	for _, c := range out.calls {
		call, _, _ := strings.Cut(c.text, ">")
		_, path, _ := strings.Cut(call, "<")
		if !strings.HasPrefix(call, "fsync(") {
			continue
		}
		assert.False(t, failed[path], "%s was synced again", path)
		failed[path] = failed[path] || c.injected()
	}
}

// killing are the calls at whose beginning the process dies.
var killing = []struct {
	calls string
	where place
}{
	{"write,pwrite64", anywhere},
	{"fsync", anywhere},
	{"fsync", large},
	{"fsync", directory},
	{"renameat,renameat2", anywhere},
	{"renameat,renameat2", large},
	{"openat", anywhere},
	{"close", anywhere},
	{"close", large},
	{"unlinkat", anywhere},
	{"flock", anywhere},
	{"fcntl", anywhere},
	{"mkdirat", anywhere},
}

func TestS14KilledCalls(t *testing.T) {
	for _, k := range killing {
		t.Run(k.calls+" "+k.where.name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t)
			f := fault{k.calls, "signal=SIGKILL"}
			moments(t, func(n int) bool {
				box := a.sandbox(t)
				out := box.trace(k.where, f.inject(n, false)...)
				box.check()
				if out.killed {
					a.recover(box)
					return true
				}
				require.Zero(t, out.code, out.stderr)
				box.complete()
				return false
			})
		})
	}
}

// like returns a new sandbox with the files of another.
func (a *arena) like(box *sandbox) *sandbox {
	box.t.Helper()
	other := a.sandbox(box.t)
	require.NoError(box.t, os.CopyFS(other.dest, os.DirFS(box.dest)))
	return other
}

// halfway returns a sandbox with half of the large blob, left by a puller that was killed.
func (a *arena) halfway(t *testing.T) *sandbox {
	t.Helper()
	for n := 20; n > 0; n-- { // a thread that writes much is likely, not certain
		box := a.sandbox(t)
		out := box.trace(large, fault{"pwrite64", "signal=SIGKILL"}.inject(50, false)...)
		if out.killed && a.missing(box)[a.blobs[0].digest] < a.blobs[0].size {
			return box
		}
	}
	require.FailNow(t, "no puller left half a blob")
	return nil
}

func TestS20FailingCallsAfterAKill(t *testing.T) {
	for _, f := range []fault{
		{"write,pwrite64", "error=ENOSPC"}, {"ftruncate", "error=EIO"}, {"pread64", "error=EIO"},
		{"unlinkat", "error=EIO"},
		{"write,pwrite64", "signal=SIGKILL"}, {"ftruncate", "signal=SIGKILL"}, {"pread64", "signal=SIGKILL"},
	} {
		t.Run(f.calls+" "+f.effect, func(t *testing.T) {
			t.Parallel()
			a := newArena(t)
			begun := a.halfway(t)
			moments(t, func(n int) bool {
				box := a.like(begun)
				out := box.trace(anywhere, f.inject(n, false)...)
				box.check()
				if out.code == 0 {
					box.complete()
					return out.injected() // a read that failed is made again
				}
				require.True(t, out.killed || out.injected(), out.stderr)
				a.recover(box)
				return true
			})
		})
	}
}

// TestS11DamagedPartial changes a byte of a partial, as a disk does that loses what was not synced.
func TestS11DamagedPartial(t *testing.T) {
	a := newArena(t)
	box := a.halfway(t)
	damaged := box.paths(".partial")[0]
	content, err := os.ReadFile(damaged)
	require.NoError(t, err)
	require.NotEmpty(t, content)
	for at := 0; at < len(content); at += 1 << 20 {
		content[at] ^= 1
	}
	require.NoError(t, os.WriteFile(damaged, content, 0))
	box.pull()
	box.complete()
}

// TestS15SyncedBeforeNamed follows each blob from its bytes to its durable name.
func TestS15SyncedBeforeNamed(t *testing.T) {
	a := newArena(t)
	box := a.sandbox(t)
	out := box.trace(anywhere, "-e", "trace=pwrite64,fsync,renameat,renameat2")
	require.Zero(t, out.code, out.stderr)
	last := out.last("fsync(", "<"+box.dest+">")
	for _, b := range a.blobs {
		data := filepath.Join(box.dest, b.name()+".partial")
		synced := out.last("fsync(", "<"+data+">")
		named := out.last("renameat", `"`+b.name()+`.partial"`)
		assert.Contains(t, synced.text, " = 0")
		if b.size > 0 {
			written := out.last("pwrite64(", "<"+data+">")
			assert.Less(t, written.end, synced.begin, "written after it was synced")
		}
		assert.Less(t, synced.end, named.begin, "named before it was synced")
		assert.Less(t, named.end, last.begin, "named after the directory was synced")
	}
}

// last returns the last call of that name that has to do with a path.
func (o outcome) last(name, path string) call {
	found := call{begin: -1, end: -1}
	for _, c := range o.calls {
		if strings.HasPrefix(c.text, name) && strings.Contains(c.text, path) {
			found = c
		}
	}
	return found
}

// TestNothingOutside looks at every call that could change a file.
func TestNothingOutside(t *testing.T) {
	a := newArena(t)
	box := a.halfway(t)
	out := box.trace(everything, "-e",
		"trace=openat,open,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,"+
			"link,linkat,symlink,symlinkat,truncate,mknod,mknodat,chmod,fchmodat,utimensat")
	require.Zero(t, out.code, out.stderr)
	changes := 0
	for _, c := range out.calls {
		reads := strings.HasPrefix(c.text, "open") && !strings.Contains(c.text, "O_WRONLY") &&
			!strings.Contains(c.text, "O_RDWR") && !strings.Contains(c.text, "O_CREAT")
		if !reads {
			changes++
			assert.Contains(t, c.text, box.dest)
		}
	}
	assert.NotZero(t, changes)
	box.complete()
}
