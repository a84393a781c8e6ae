package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyLeavesAloneWhatElseIsInItsDirectory(t *testing.T) {
	made, from := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, from)
	to, dir := startedServer(t).url+"/you/model:v1", tree(t, map[string]string{"mine": "kept"})
	for range 2 { // the second time nothing is missing
		must(t, "copy", "--dir", dir, from, to)
		assert.Equal(t, map[string]string{"mine": "kept"}, filesOf(t, dir))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 1, "nothing of the copy is left")
	}
}

// Two copies of one model to two places must not remove each other's blobs.
func TestEachTargetOfACopyHasADirectoryOfItsOwn(t *testing.T) {
	made, from := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, from)
	dir, places := t.TempDir(), map[string]bool{}
	for _, tag := range []string{"v1", "v2"} {
		front := refusing(t, startedServer(t), http.MethodPut)
		r := runWith(t, "copy", "--dir", dir, from, front+"/you/model:"+tag)
		require.Equal(t, exitFailed, r.code)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			places[filepath.Join(dir, e.Name())] = e.IsDir()
		}
	}
	assert.Len(t, places, 2)
}

func TestTheHintOfACopyIsAboutTheRegistryThatRefuses(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	target := startedServer(t)
	must(t, "push", made, target.url+"/you/model:v1") // so that only the manifest is refused
	front := refusing(t, target, http.MethodPut)
	r := runWith(t, "copy", "--dir", t.TempDir(), source.url+"/me/model:v1", front+"/you/model:v2")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "transfer login "+strings.TrimPrefix(front, "http://"))
}

// The password of --username is the target's: the source may be anybody's.
func TestACopySendsItsPasswordToTheTargetAlone(t *testing.T) {
	var sent atomic.Int32
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			sent.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer source.Close()
	made, guarded := tree(t, someFiles), guard(t, startedServer(t))
	login := env(map[string]string{passwordVariable: "hunter2"})
	run := func(args ...string) result {
		return runIn(t.Context(), login, append(args, "--username", "me")...)
	}
	r := run("copy", source.URL+"/you/model:v1", guarded+"/me/model:v1")
	assert.Equal(t, exitFailed, r.code)
	host := strings.TrimPrefix(source.URL, "http://")
	assert.Contains(t, r.stderr, "hint: log in with: transfer login "+host)
	assert.Zero(t, sent.Load())

	require.Equal(t, exitOK, run("push", made, guarded+"/me/model:v1").code)
	r = run("copy", "--dir", t.TempDir(), guarded+"/me/model:v1", guarded+"/me/model:v2")
	assert.Equal(t, exitOK, r.code, "within one registry it is that of both: %s", r.stderr)
}

// refusing puts a front before a server that answers 403 to a method.
func refusing(t *testing.T, s *server, method string) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func TestH12ACopyLeavesTheDirectoryThatWasThere(t *testing.T) {
	made, from := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	must(t, "push", made, from)
	mine, none := t.TempDir(), filepath.Join(t.TempDir(), "none")
	for _, dir := range []string{mine, none} {
		to := fronted(t, startedServer(t), func(w http.ResponseWriter, r *http.Request) bool {
			onDisk, err := filepath.Glob(filepath.Join(dir, "transfer-copy-*"))
			assert.NoError(t, err)
			streamed := r.Method == http.MethodPut && len(onDisk) == 0
			if streamed {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
			return streamed
		})
		must(t, "copy", "--dir", dir, from, to+"/you/model:v1")
	}
	assert.DirExists(t, mine)
	assert.NoDirExists(t, none)
}

// What a target will not take is not fetched.
func TestACopyAsksTheTargetFirst(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	var fetched atomic.Int32
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			fetched.Add(1)
		}
		source.http.Handler.ServeHTTP(w, r)
	}))
	defer counted.Close()
	dir := t.TempDir()
	front := refusing(t, startedServer(t), http.MethodPost)
	r := runWith(t, "copy", "--dir", dir, counted.URL+"/me/model:v1", front+"/you/model:v1")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "hint: ")
	assert.Contains(t, r.stderr, "transfer login "+strings.TrimPrefix(front, "http://"))
	assert.Zero(t, fetched.Load())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// fronted puts a front before a server, which answers what it wants to and says whether it did.
func fronted(t *testing.T, s *server, answer func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			s.http.Handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func TestACopyPassesBlobsOnAndGoesThroughTheDiskWhereThatFails(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	isBlob := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:")
	}
	var cut, lost, other atomic.Int32
	var disk atomic.Bool // the copy has made its directory
	var target *server
	elsewhere := fronted(t, source, func(w http.ResponseWriter, r *http.Request) bool {
		assert.Empty(t, r.Header.Get("Authorization"))
		r.URL.Path = r.URL.Query().Get("for")
		return false
	})
	for name, test := range map[string]struct {
		from, to func(w http.ResponseWriter, r *http.Request) bool
		disk     bool
	}{
		"as they come": {},
		"a redirect": {from: func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				http.Redirect(w, r, elsewhere+"/store?for="+r.URL.Path, http.StatusTemporaryRedirect)
			}
			return isBlob(r)
		}},
		"a body that is cut": {from: func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r) || r.Header.Get("Range") != "" || cut.Add(1) > 1 {
				return false
			}
			rec := httptest.NewRecorder()
			source.http.Handler.ServeHTTP(rec, r)
			w.Header().Set("Content-Length", rec.Header().Get("Content-Length"))
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			panic(http.ErrAbortHandler)
		}},
		"an answer that is lost": {to: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") || lost.Add(1) > 1 {
				return false
			}
			rec := httptest.NewRecorder()
			target.http.Handler.ServeHTTP(rec, r)
			panic(http.ErrAbortHandler)
		}},
		"other bytes": {from: func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r) {
				return false
			}
			rec := httptest.NewRecorder()
			source.http.Handler.ServeHTTP(rec, r)
			if rec.Body.Len() == 0 || other.Add(1) > 1 {
				return false
			}
			body := rec.Body.Bytes()
			for i := range body {
				body[i] ^= 1
			}
			w.Header().Set("Content-Length", rec.Header().Get("Content-Length"))
			_, _ = w.Write(body)
			return true
		}, disk: true},
		"a session that is refused": {to: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") || disk.Load() {
				return false
			}
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return true
		}, disk: true},
	} {
		t.Run(name, func(t *testing.T) {
			no := func(http.ResponseWriter, *http.Request) bool { return false }
			if test.from == nil {
				test.from = no
			}
			if test.to == nil {
				test.to = no
			}
			target = startedServer(t)
			disk.Store(false)
			dir := filepath.Join(t.TempDir(), "dir")
			to := fronted(t, target, func(w http.ResponseWriter, r *http.Request) bool {
				if _, err := os.Stat(dir); err == nil {
					disk.Store(true)
				}
				return test.to(w, r)
			})
			from := fronted(t, source, test.from)
			r := must(t, "copy", "--dir", dir, from+"/me/model:v1", to+"/you/model:v1")
			assert.Equal(t, test.disk, disk.Load())
			assert.NoDirExists(t, dir)
			assert.Contains(t, r.stdout, "copied")
			assert.NotContains(t, r.stdout, "there already")
			pulled := t.TempDir()
			must(t, "pull", target.url+"/you/model:v1", pulled)
			assert.Equal(t, filesOf(t, made), filesOf(t, pulled))
			open, err := os.ReadDir(filepath.Join(target.dir, "uploads"))
			require.NoError(t, err)
			assert.Empty(t, open, "no upload is left open")
		})
	}
}

func TestACopyTakesReferrersAlong(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	subject := digestOf(t, source.url+"/me/model", "v1")
	first := attach(t, source.url+"/me/model", subject)
	second := attach(t, source.url+"/me/model", first) // a signature of a signature
	for name, test := range map[string]struct {
		args []string
	}{
		"with": {}, "without": {[]string{"--no-referrers"}},
	} {
		t.Run(name, func(t *testing.T) {
			target := startedServer(t)
			args := append([]string{"copy"}, test.args...)
			r := must(t, append(args, source.url+"/me/model:v1", target.url+"/you/model:v1")...)
			assert.Equal(t, test.args == nil, strings.Contains(r.stdout, ", with 2 referrers\n"), r.stdout)
			for about, dg := range map[digest.Digest]digest.Digest{subject: first, first: second} {
				resp, err := http.Get(target.url + "/v2/you/model/referrers/" + about.String())
				require.NoError(t, err)
				list, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, test.args == nil, strings.Contains(string(list), dg.String()))
			}
		})
	}
}

// digestOf returns the digest of a tag.
func digestOf(t *testing.T, repository, tag string) digest.Digest {
	t.Helper()
	at := strings.Index(repository[len("http://"):], "/") + len("http://")
	resp, err := http.Head(repository[:at] + "/v2" + repository[at:] + "/manifests/" + tag)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return digest.Digest(resp.Header.Get("Docker-Content-Digest"))
}

// attach puts a manifest that has a subject, and returns its digest.
func attach(t *testing.T, repository string, subject digest.Digest) digest.Digest {
	t.Helper()
	at := strings.Index(repository[len("http://"):], "/") + len("http://")
	base := repository[:at] + "/v2" + repository[at:]
	config := digest.FromString("{}")
	resp, err := http.Post(base+"/blobs/uploads/?digest="+config.String(), "", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"x/signature",
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],
		"subject":{"mediaType":%[1]q,"digest":%[3]q,"size":1}}`, registry.MediaTypeManifest, config, subject)
	dg := digest.FromString(text)
	req, err := http.NewRequest(http.MethodPut, base+"/manifests/"+dg.String(), strings.NewReader(text))
	require.NoError(t, err)
	req.Header.Set("Content-Type", registry.MediaTypeManifest)
	resp, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	return dg
}

// cuttingTarget puts a front before a target that cuts the first body of an upload in its middle.
func cuttingTarget(t *testing.T, target *server, at int64, forgets bool) (url string, taken *atomic.Int64) {
	t.Helper()
	var cut atomic.Bool
	taken = new(atomic.Int64)
	return fronted(t, target, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") {
			return false
		}
		r.Body = &counted{ReadCloser: r.Body, read: taken}
		if r.ContentLength <= at || cut.Swap(true) {
			return false
		}
		r.Method, r.ContentLength = http.MethodPatch, at
		r.Body = io.NopCloser(io.LimitReader(r.Body, at))
		target.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
		if forgets {
			r.Method = http.MethodDelete
			target.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		panic(http.ErrAbortHandler)
	}), taken
}

// counted is a body of which is counted how much was read.
type counted struct {
	io.ReadCloser
	read *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func TestACopyGoesOnWhereTheTargetHasTheBlob(t *testing.T) {
	made, size := largeFiles(t)
	source := startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	for name, forgets := range map[string]bool{"the session is kept": false, "the session is gone": true} {
		t.Run(name, func(t *testing.T) {
			target, dir := startedServer(t), filepath.Join(t.TempDir(), "dir")
			to, taken := cuttingTarget(t, target, 1<<20, forgets)
			var disk atomic.Bool
			from := fronted(t, source, func(http.ResponseWriter, *http.Request) bool {
				if _, err := os.Stat(dir); err == nil {
					disk.Store(true)
				}
				return false
			})
			must(t, "copy", "--dir", dir, from+"/me/model:v1", to+"/you/model:v1")
			assert.Equal(t, forgets, disk.Load(), "through the disk")
			if !forgets {
				assert.LessOrEqual(t, taken.Load(), size+1000)
			}
			assert.NoDirExists(t, dir)
			pulled := t.TempDir()
			must(t, "pull", target.url+"/you/model:v1", pulled)
			assert.Equal(t, filesOf(t, made), filesOf(t, pulled))
		})
	}
}

// The source's last word ends a copy: nobody else has the blob.
func TestACopyEndsWithTheErrorOfItsSource(t *testing.T) {
	made, source := tree(t, someFiles), startedServer(t)
	must(t, "push", made, source.url+"/me/model:v1")
	from := fronted(t, source, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/sha256:") {
			w.WriteHeader(http.StatusNotFound)
		}
		return strings.Contains(r.URL.Path, "/blobs/sha256:")
	})
	target, dir := startedServer(t), filepath.Join(t.TempDir(), "dir")
	r := runWith(t, "copy", "--dir", dir, from+"/me/model:v1", target.url+"/you/model:v1")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, strings.TrimPrefix(from, "http://"))
	assert.Contains(t, r.stderr, "404")
	assert.NoDirExists(t, dir)
	open, err := os.ReadDir(filepath.Join(target.dir, "uploads"))
	require.NoError(t, err)
	assert.Empty(t, open, "no upload is left open")
}

func TestAnIndexIsInspectedAndCopied(t *testing.T) {
	s := startedServer(t)
	ref := s.url + "/me/model"
	pushIndex(t, s, "me/model")
	r := must(t, "inspect", ref)
	for _, want := range []string{"lists     2 manifests", "linux/arm64", "linux/amd64"} {
		assert.Contains(t, r.stdout, want)
	}
	assert.Contains(t, must(t, "inspect", "--json", ref).stdout, `"platform":"linux/arm64"`)
	assert.Contains(t, must(t, "inspect", "--platform", "linux/arm64", ref).stdout, "1 layer")

	to := startedServer(t).url + "/you/model"
	stage := filepath.Join(t.TempDir(), "stage")
	must(t, "copy", "--dir", stage, ref, to+":all")
	assert.Equal(t, must(t, "inspect", "--raw", ref).stdout, must(t, "inspect", "--raw", to+":all").stdout)
	must(t, "copy", "--dir", stage, "--platform", "linux/amd64", ref, to+":one")
	assert.Contains(t, must(t, "inspect", to+":one").stdout, "1 layer")
	must(t, "pull", "--platform", "linux/arm64", to+":all", t.TempDir())
	r = runWith(t, "copy", "--dir", stage, ref, to+"@"+someDigest)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "not "+someDigest)
}

func TestAModelIsCopied(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	from := s.url + "/me/model:v1"
	must(t, "push", made, from)
	for name, to := range map[string]string{
		"mounted": s.url + "/team/model:v1", "elsewhere": startedServer(t).url + "/you/model:v2",
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "stage")
			first := must(t, "copy", "--dir", dir, from, to)
			assert.NoDirExists(t, dir)
			if name == "mounted" {
				assert.Contains(t, first.stdout, "all there already")
			}
			pulled := t.TempDir()
			must(t, "pull", to, pulled)
			assert.Equal(t, someFiles, filesOf(t, pulled))
			assert.Contains(t, must(t, "copy", "--dir", dir, from, to).stdout, "all there already")
		})
	}
}
