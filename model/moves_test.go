package model_test

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// files makes a directory of files.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// pushed pushes a directory of three files and returns its reference.
func pushed(t *testing.T) (_ *registrytest.Registry, dir, reference string) {
	t.Helper()
	reg, host := serve(t, registrytest.Options{})
	dir = files(t, map[string]string{"config.json": "{}", "weights.bin": "weights", "text/licence": "free"})
	_, err := model.Push(t.Context(), []string{dir}, host+"/me/model:v1", model.PushOptions{})
	require.NoError(t, err)
	return reg, dir, host + "/me/model:v1"
}

func TestPullBringsBackWhatPushHasSent(t *testing.T) {
	_, made, reference := pushed(t)
	for _, form := range []model.Form{model.Auto, model.Files, model.Blobs, model.OCILayout, model.Ollama} {
		t.Run(string(form), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			var begun []model.Result
			var last [2]int64
			opts := model.PullOptions{Form: form, Options: model.Options{
				Begin:    func(plan model.Result) { begun = append(begun, plan) },
				Progress: func(completed, total int64) { last = [2]int64{completed, total} },
			}}
			plan, err := model.Plan(t.Context(), reference, dir, opts)
			require.NoError(t, err)
			assert.NoDirExists(t, dir)
			assert.Empty(t, begun)

			result, err := model.Pull(t.Context(), reference, dir, opts)
			require.NoError(t, err)
			assert.Equal(t, plan.Bytes, result.Moved, "the plan says what moves")
			assert.Equal(t, plan.Digest, result.Digest)
			assert.Equal(t, plan.Missing, begun[0].Missing)
			assert.Equal(t, [2]int64{result.Bytes, result.Bytes}, last)
			if form == model.Auto || form == model.Files {
				assert.Equal(t, "weights", read(t, filepath.Join(dir, "weights.bin")))
				assert.Len(t, result.Files, 3)
				form = model.Files
			}
			assert.Equal(t, form, result.Form)
			assert.Equal(t, form, model.FormOf(dir))

			again, err := model.Pull(t.Context(), reference, dir, opts)
			require.NoError(t, err)
			assert.Zero(t, again.Moved)
			assert.Equal(t, again.Bytes, again.There)

			verified, err := model.Verify(t.Context(), dir, model.VerifyOptions{})
			require.NoError(t, err)
			assert.Empty(t, verified.Wrong)

			other, err := model.Push(t.Context(), []string{dir}, reference+"-again", model.PushOptions{})
			require.NoError(t, err)
			assert.Zero(t, other.Moved, "the registry has all of it")
			assert.Equal(t, other.Bytes, other.There)
			if form != model.Files { // it is made anew of files, and says the same
				assert.Equal(t, result.Digest, other.Digest)
			}
		})
	}
	assert.Equal(t, "weights", read(t, filepath.Join(made, "weights.bin")))
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

// Forty callers of one cache fetch each blob once, and all have the model.
func TestFortyCallersOfOneCacheFetchOnce(t *testing.T) {
	for _, form := range []model.Form{model.Files, model.Blobs} {
		t.Run(string(form), func(t *testing.T) {
			_, _, reference := pushed(t)
			cache := t.TempDir()
			var moved atomic.Int64
			var all sync.WaitGroup
			for range 40 {
				all.Go(func() {
					result, err := model.Pull(t.Context(), reference, cache, model.PullOptions{Form: form})
					assert.NoError(t, err)
					moved.Add(result.Moved)
				})
			}
			all.Wait()
			result, err := model.Plan(t.Context(), reference, cache, model.PullOptions{Form: form})
			require.NoError(t, err)
			assert.Equal(t, result.Bytes, moved.Load())
			assert.Empty(t, result.Missing)
		})
	}
}

// A digest that two layers give two sizes is refused in every form, and not fetched in one of them.
func TestS13LayersOfOneDigestAndTwoSizesAreRefused(t *testing.T) {
	_, host := serve(t, registrytest.Options{})
	reference := host + "/me/model:v1"
	dir := files(t, map[string]string{"a": "weights", "b": "weights"})
	_, err := model.Push(t.Context(), []string{dir}, reference, model.PushOptions{})
	require.NoError(t, err)
	about, err := model.Inspect(t.Context(), reference, model.InspectOptions{})
	require.NoError(t, err)
	assert.Equal(t, about.Bytes+int64(len("weights")), about.Sum)
	repo, err := model.Open(about.Reference, model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	two := bytes.Replace(about.Manifest.Data, []byte(`"size":7`), []byte(`"size":8`), 1)
	require.NoError(t, repo.PutManifest(t.Context(), "v1", registry.NewManifest(two, "")))
	for _, form := range []model.Form{model.Files, model.Blobs, model.OCILayout} {
		dir := filepath.Join(t.TempDir(), "model")
		_, err := model.Pull(t.Context(), reference, dir, model.PullOptions{Form: form})
		require.ErrorContains(t, err, "sizes 8 and 7", form)
		assert.NoFileExists(t, filepath.Join(dir, "b"))
	}
}

func TestVerifyFindsWhatIsWrongAndRepairsIt(t *testing.T) {
	_, _, reference := pushed(t)
	dir := t.TempDir()
	_, err := model.Pull(t.Context(), reference, dir, model.PullOptions{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "weights.bin"), []byte("WEIGHTS"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))

	result, err := model.Verify(t.Context(), dir, model.VerifyOptions{})
	require.ErrorIs(t, err, model.ErrDamaged)
	require.Len(t, result.Wrong, 2)
	assert.Equal(t, "config.json", result.Wrong[0].Name)
	assert.Equal(t, "weights.bin", result.Wrong[1].Name)
	assert.Equal(t, reference, result.Origin)

	result, err = model.Verify(t.Context(), dir, model.VerifyOptions{From: result.Origin})
	require.NoError(t, err)
	assert.True(t, result.Repaired)
	assert.Equal(t, "weights", read(t, filepath.Join(dir, "weights.bin")))
	_, err = model.Verify(t.Context(), t.TempDir(), model.VerifyOptions{})
	require.ErrorIs(t, err, model.ErrNothing, "who says that a pull has begun there?")
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "notes.txt"), []byte("mine"), 0o600))
	_, err = model.Verify(t.Context(), other, model.VerifyOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotContains(t, err.Error(), fs.ErrNotExist.Error(), "it is the model that is not there")
}

// A manifest that is wrong is fetched as one, and what only it names is looked at too.
func TestL2VerifyRepairsAManifestAndWhatItNames(t *testing.T) {
	_, made, reference := pushed(t)
	dir := t.TempDir()
	pulled, err := model.Pull(t.Context(), reference, dir, model.PullOptions{Form: model.OCILayout})
	require.NoError(t, err)
	layer := digest.FromString(read(t, filepath.Join(made, "weights.bin"))).String()
	for _, dg := range []string{pulled.Digest, layer} {
		path := filepath.Join(dir, "blobs", strings.Replace(dg, ":", "/", 1))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, make([]byte, info.Size()), 0o600))
	}
	found, err := model.Verify(t.Context(), dir, model.VerifyOptions{})
	require.ErrorIs(t, err, model.ErrDamaged)
	assert.Equal(t, 1, found.Files, "what the manifest names is not known")
	repaired, err := model.Verify(t.Context(), dir, model.VerifyOptions{From: reference})
	require.NoError(t, err)
	assert.True(t, repaired.Repaired)
	assert.Len(t, repaired.Wrong, 2)
	right, err := model.Verify(t.Context(), dir, model.VerifyOptions{})
	require.NoError(t, err)
	assert.Equal(t, right.Files, repaired.Files)
	assert.Equal(t, right.Bytes, repaired.Bytes)
}

// What an interrupted pull has unpacked and not recorded is not somebody's own: later versions replace it.
func TestL3KeepLeavesNothingOfAnInterruptedPull(t *testing.T) {
	_, host := serve(t, registrytest.Options{})
	made := filepath.Join(files(t, map[string]string{"made/d/x": "", "made/own": ""}), "made")
	reference := func(version string) string { return host + "/me/model:" + version }
	versions := []string{"v1", "v2", "v3"}
	for _, version := range versions {
		for _, name := range []string{"d/x", "own"} {
			require.NoError(t, os.WriteFile(filepath.Join(made, name), []byte("of "+version), 0o600))
		}
		_, err := model.Push(t.Context(), []string{made}, reference(version), model.PushOptions{Tar: true})
		require.NoError(t, err)
	}
	dir, kept := t.TempDir(), []string{}
	pull := func(version string) {
		result, err := model.Pull(t.Context(), reference(version), dir, model.PullOptions{Keep: true})
		require.NoError(t, err)
		for _, change := range result.Changes {
			kept = append(kept, version+" "+change.Name)
		}
	}
	record := filepath.Join(dir, ".transfer", "record.json")
	pull("v1")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "made", "own"), []byte("mine"), 0o600))
	before := read(t, record)
	pull("v2")
	require.NoError(t, os.WriteFile(record, []byte(before), 0o600)) // as if it had been killed
	pull("v2")
	pull("v3")
	assert.Equal(t, "of v3", read(t, filepath.Join(dir, "made", "d", "x")))
	assert.Equal(t, "mine", read(t, filepath.Join(dir, "made", "own")))
	assert.Equal(t, []string{"v2 made/own", "v2 made/own", "v3 made/own"}, kept)
}

// A transfer that is refused before its first byte tells of what it was to move.
func TestTheResultOfARefusedTransferIsThePlan(t *testing.T) {
	_, made, reference := pushed(t)
	refused := model.Options{MaxBytesPerSecond: -1}
	plan, err := model.Plan(t.Context(), reference, t.TempDir(), model.PullOptions{})
	require.NoError(t, err)
	pulled, err := model.Pull(t.Context(), reference, t.TempDir(), model.PullOptions{Options: refused})
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.Equal(t, plan.Bytes, pulled.Bytes)
	sent, err := model.Push(t.Context(), []string{made}, reference, model.PushOptions{Options: refused})
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.Equal(t, plan.Bytes, sent.Bytes)
	assert.Zero(t, sent.Moved)
}

// A pull that ends before anything comes leaves no directory that it has made, but any other.
func TestPullThatIsRefusedLeavesNoDirectory(t *testing.T) {
	_, _, reference := pushed(t)
	few := model.Limits{Files: 1}
	for _, form := range []model.Form{model.Auto, model.Files} {
		for _, there := range []string{".", "a", "a/b", "a/b/c"} {
			dir := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(dir, there), 0o700))
			_, err := model.Pull(t.Context(), reference, filepath.Join(dir, "a", "b", "c"),
				model.PullOptions{Form: form, Limits: few})
			require.ErrorAs(t, err, new(*model.LimitError))
			left := there
			for _, name := range []string{"a", "a/b", "a/b/c"} {
				_, err := os.Stat(filepath.Join(dir, name))
				assert.Equal(t, strings.HasPrefix(left, name), err == nil, "%s, of %s", name, there)
			}
		}
	}
}

func TestPruneRemovesWhatNoModelNeeds(t *testing.T) {
	_, _, reference := pushed(t)
	dir := t.TempDir()
	_, err := model.Pull(t.Context(), reference, dir, model.PullOptions{Form: model.Blobs})
	require.NoError(t, err)
	stray := filepath.Join(dir, "sha256-"+"00000000000000000000000000000000000000000000000000000000000000ff")
	require.NoError(t, os.WriteFile(stray, []byte("old"), 0o644))
	for _, dry := range []bool{true, false} {
		result, err := model.Prune(t.Context(), dir, model.PruneOptions{DryRun: dry})
		require.NoError(t, err)
		require.Len(t, result.Removed, 1)
		assert.Equal(t, stray, result.Removed[0].Path)
		_, err = os.Stat(stray)
		assert.Equal(t, dry, err == nil)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "manifest.json")))
	result, err := model.Prune(t.Context(), dir, model.PruneOptions{})
	require.NoError(t, err)
	assert.Equal(t, 3, result.Kept, "two files and one that is the config too")
}

// A pull into Ollama's models has blobs that no manifest names yet: who prunes waits for it.
func TestL3PruneWaitsForAPullIntoOllamasModels(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	weights := digest.FromString("weights").String()
	begun, waited := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, weights) {
			once.Do(func() { close(begun) })
			<-waited
		}
		reg.ServeHTTP(w, r)
	}))
	defer server.Close()
	made := files(t, map[string]string{"config.json": "{ }", "weights.bin": "weights"})
	reference := server.URL + "/me/model:v1"
	_, err := model.Push(t.Context(), []string{made}, reference, model.PushOptions{})
	require.NoError(t, err)

	dir := t.TempDir()
	var pulling sync.WaitGroup
	pulling.Go(func() {
		opts := model.PullOptions{Form: model.Ollama, Options: model.Options{Concurrency: 1}}
		_, err := model.Pull(t.Context(), reference, dir, opts)
		assert.NoError(t, err)
	})
	<-begun
	told := sync.OnceFunc(func() { close(waited) })
	time.AfterFunc(10*time.Second, told) // else it would never end where nobody waits
	_, err = model.Prune(t.Context(), dir, model.PruneOptions{Waiting: func(string) { told() }})
	told()
	require.NoError(t, err)
	pulling.Wait()
	_, err = model.Verify(t.Context(), dir, model.VerifyOptions{})
	require.NoError(t, err)
}

// A record that cannot be used is not called missing, and a pull makes it anew.
func TestL2ADamagedRecordIsSaidToBeDamaged(t *testing.T) {
	_, _, reference := pushed(t)
	dir := t.TempDir()
	for range 2 {
		_, err := model.Pull(t.Context(), reference, dir, model.PullOptions{})
		require.NoError(t, err)
		_, err = model.Verify(t.Context(), dir, model.VerifyOptions{})
		require.NoError(t, err)
		require.NoError(t, os.Truncate(filepath.Join(dir, ".transfer", "record.json"), 10))
		_, err = model.Verify(t.Context(), dir, model.VerifyOptions{})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "record.json cannot be used; pull the model again")
	}
}

func TestInspectSaysWhatAModelConsistsOf(t *testing.T) {
	_, _, reference := pushed(t)
	d, err := model.Inspect(t.Context(), reference, model.InspectOptions{})
	require.NoError(t, err)
	assert.Len(t, d.Files, 3)
	assert.Equal(t, "config.json", d.Files[0].Name)
	assert.Equal(t, int64(len("{}")+len("weights")+len("free")), d.Bytes, "the config is {} too")
	assert.Equal(t, d.Bytes+2, d.Sum)
	_, err = model.Inspect(t.Context(), reference+"0", model.InspectOptions{})
	var status *transfer.StatusError
	require.ErrorAs(t, err, &status)
}

func TestWhatIsAttachedRefersToTheModel(t *testing.T) {
	_, _, reference := pushed(t)
	signature := filepath.Join(files(t, map[string]string{"m.sig": "signed"}), "m.sig")
	opts := model.PushOptions{ArtifactType: "application/x.sig"}
	result, err := model.Attach(t.Context(), []string{signature}, reference, opts)
	require.NoError(t, err)
	r := parse(t, reference)
	repo, err := model.Open(r, model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	m, err := repo.Manifest(t.Context(), r.Version())
	require.NoError(t, err)
	list, err := repo.Referrers(t.Context(), m.Digest, "")
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, result.Digest, list[0].Digest)
	assert.Equal(t, result.Digest, result.Reference.Version())
}

// What cannot be is found before the first request.
// A signature is of what the registry has, whatever a mirror says.
func TestWhatIsAttachedRefersToTheModelOfTheRegistry(t *testing.T) {
	_, dir, reference := pushed(t)
	_, mirror := serve(t, registrytest.Options{})
	other := files(t, map[string]string{"weights.bin": "of yesterday"})
	_, err := model.Push(t.Context(), []string{other}, mirror+"/me/model:v1", model.PushOptions{})
	require.NoError(t, err)
	opts := model.PushOptions{ArtifactType: "application/x.sig"}
	opts.Mirrors = []string{"http://" + mirror}
	_, err = model.Attach(t.Context(), []string{filepath.Join(dir, "config.json")}, reference, opts)
	require.NoError(t, err)
	about, err := model.Inspect(t.Context(), reference, model.InspectOptions{})
	require.NoError(t, err)
	repo, err := model.Open(about.Reference, model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	referrers, err := repo.Referrers(t.Context(), about.Manifest.Digest, "")
	require.NoError(t, err)
	assert.Len(t, referrers, 1)
}

func TestMisuseIsAnOptionError(t *testing.T) {
	reg, dir, reference := pushed(t)
	before := len(reg.Requests())
	for name, call := range map[string]func() error{
		"no directory": func() error {
			_, err := model.Pull(t.Context(), reference, "", model.PullOptions{})
			return err
		},
		"no context": func() error {
			var none context.Context
			_, err := model.Pull(none, reference, t.TempDir(), model.PullOptions{})
			return err
		},
		"a malformed reference": func() error {
			_, err := model.Pull(t.Context(), "me/:", t.TempDir(), model.PullOptions{})
			return err
		},
		"an unknown form": func() error {
			_, err := model.Pull(t.Context(), reference, t.TempDir(), model.PullOptions{Form: "zip"})
			return err
		},
		"a malformed pattern": func() error {
			opts := model.PullOptions{Include: []string{"["}}
			_, err := model.Pull(t.Context(), reference, t.TempDir(), opts)
			return err
		},
		"a negative limit": func() error {
			opts := model.PullOptions{Limits: model.Limits{Files: -1}}
			_, err := model.Pull(t.Context(), reference, t.TempDir(), opts)
			return err
		},
		"no paths": func() error {
			_, err := model.Push(t.Context(), nil, reference, model.PushOptions{})
			return err
		},
		"an option of another form": func() error {
			_, err := model.Push(t.Context(), []string{dir}, reference, model.PushOptions{Model: "x"})
			return err
		},
		"an unknown part": func() error {
			opts := model.PushOptions{Form: model.Ollama, Parts: map[string][]string{"weights": {"x"}}}
			_, err := model.Push(t.Context(), []string{dir}, reference, opts)
			return err
		},
		"nothing to attach as": func() error {
			_, err := model.Attach(t.Context(), []string{dir}, reference, model.PushOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, call(), transfer.ErrInvalidOption)
			assert.Len(t, reg.Requests(), before)
		})
	}
}

// A refused log-in ends a push at its first request, and many blobs do not send it again.
func TestAPushIsRefusedOnce(t *testing.T) {
	reg, host := serve(t, protected())
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	dir := files(t, map[string]string{"a": "1", "b": "2", "c": "3"})
	_, err := model.Push(t.Context(), []string{dir}, host+"/me/model", model.PushOptions{})
	require.ErrorIs(t, err, registry.ErrUnauthorized)
	assert.Len(t, reg.Requests(), 1)
}

// A dry run leaves no connection open, either.
func TestADryRunOfPushLeavesNoConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(registrytest.New(registrytest.Options{}))
	var open atomic.Int64
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	reference := server.Listener.Addr().String() + "/me/model:v1"
	dir := files(t, map[string]string{"a": "1", "b": "2"})
	_, err := model.Push(t.Context(), []string{dir}, reference, model.PushOptions{DryRun: true})
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return open.Load() == 0 }, 5*time.Second, time.Millisecond)
}
