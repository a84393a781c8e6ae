package model_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
	"github.com/modeltransfer/transfer/model"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	weights    = 68
	weightSize = 512 << 10
)

// gguf are three versions of a model of 34 MiB: the first, one with a longer template and a tensor that was
// changed, and one of which all is new.
var gguf = sync.OnceValue(func() (all [3][]byte) {
	for version := range all {
		template := strings.Repeat("x", 100*(version+1))
		f := tensortest.File{Metadata: []string{"tokenizer.chat_template", template}}
		var seeds []uint64
		for i := range weights {
			f.Tensors = append(f.Tensors, tensortest.Tensor{
				Name: fmt.Sprintf("blk.%d.weight", i), Type: 1, Shape: []uint64{512, 512}, Size: weightSize,
			})
			seeds = append(seeds, uint64(i))
			if version == 1 && i == 20 || version == 2 {
				seeds[i] += uint64(1000 * version)
			}
		}
		all[version] = f.Bytes(f.GGUF(), seeds)
	}
	return all
})

// updated is a registry that has versions of a model.
type updated struct {
	t    *testing.T
	reg  *registrytest.Registry
	name string // the reference, without a tag
}

func newUpdated(t *testing.T) *updated {
	t.Helper()
	reg, host := serve(t, registrytest.Options{})
	u := &updated{t, reg, host + "/me/model"}
	for i, data := range gguf() {
		u.put(host, fmt.Sprint("v", i), data)
	}
	return u
}

// put pushes a model of one file and a config.
func (u *updated) put(host, tag string, data []byte) {
	u.t.Helper()
	dir := u.t.TempDir()
	config := []byte("{}")
	var blobs []transfer.Blob
	var manifest struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        map[string]any   `json:"config"`
		Layers        []map[string]any `json:"layers"`
	}
	manifest.SchemaVersion, manifest.MediaType = 2, "application/vnd.oci.image.manifest.v1+json"
	for _, content := range [][]byte{config, data} {
		dg := digest.FromBytes(content)
		require.NoError(u.t, os.WriteFile(filepath.Join(dir, "sha256-"+dg.Encoded()), content, 0o644))
		blobs = append(blobs, transfer.Blob{Digest: dg.String(), Size: int64(len(content))})
		manifest.Config, manifest.Layers = map[string]any{
			"mediaType": "application/json", "digest": blobs[0].Digest, "size": blobs[0].Size,
		}, []map[string]any{{
			"mediaType": "application/octet-stream", "digest": dg.String(), "size": len(content),
			"annotations": map[string]string{"org.opencontainers.image.title": "model.gguf"},
		}}
	}
	body, err := json.Marshal(manifest)
	require.NoError(u.t, err)
	require.NoError(u.t, transfer.Upload(u.t.Context(), transfer.UploadOptions{
		Blobs:       blobs,
		BaseURL:     "http://" + host,
		SrcDir:      dir,
		Repository:  "me/model",
		Manifest:    body,
		ManifestRef: tag,
	}))
}

// pull pulls a version, and returns how many bytes the registry has sent for it.
func (u *updated) pull(version int, dir string, opts model.PullOptions) (result model.Result, sent int64) {
	u.t.Helper()
	before := u.reg.BytesSent()
	result, err := model.Pull(u.t.Context(), fmt.Sprintf("%s:v%d", u.name, version), dir, opts)
	require.NoError(u.t, err)
	u.reg.Wait()
	return result, u.reg.BytesSent() - before
}

// require requires that a directory has a version, whole.
func (u *updated) require(version int, dir string) {
	u.t.Helper()
	want, found := digest.FromBytes(gguf()[version]), 0
	require.NoError(u.t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if digest.FromBytes(data) == want {
			found++
		}
		return err
	}))
	assert.Positive(u.t, found)
	report, err := model.Verify(u.t.Context(), dir, model.VerifyOptions{})
	require.NoError(u.t, err)
	assert.Empty(u.t, report.Wrong)
}

var forms = []model.Form{model.Files, model.Blobs, model.OCILayout, model.Ollama}

// A directory that has a version is updated, in whatever form it has it, and fetches what has changed.
func TestPullUpdatesWhatTheDirectoryHas(t *testing.T) {
	for _, form := range forms {
		t.Run(string(form), func(t *testing.T) {
			u, dir := newUpdated(t), t.TempDir()
			first, sent := u.pull(0, dir, model.PullOptions{Form: form})
			assert.GreaterOrEqual(t, sent, first.Moved)
			assert.Zero(t, first.Reused)
			result, sent := u.pull(1, dir, model.PullOptions{Form: form})
			assert.LessOrEqual(t, sent, int64(weightSize+result.Bytes/50))
			assert.GreaterOrEqual(t, sent, result.Moved)
			assert.Equal(t, result.Bytes, result.There+result.Moved+result.Reused)
			assert.Greater(t, result.Reused, result.Bytes*9/10)
			u.require(1, dir)
			result, _ = u.pull(2, dir, model.PullOptions{Form: form})
			assert.Zero(t, result.Reused, "nothing is the same")
			u.require(2, dir)
		})
	}
}

// Files, and directories of every form, may hold parts of the model; links are followed where they are named.
func TestPullReusesWhatItIsGiven(t *testing.T) {
	u := newUpdated(t)
	file := filepath.Join(t.TempDir(), "older.gguf")
	require.NoError(t, os.WriteFile(file, gguf()[0], 0o644))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(file, link))
	old := map[string]string{"file": file, "a link to it": link, "a directory": filepath.Dir(file)}
	for _, form := range forms {
		old[string(form)] = t.TempDir()
		u.pull(0, old[string(form)], model.PullOptions{Form: form})
	}
	for name, path := range old {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			result, sent := u.pull(1, dir, model.PullOptions{Reuse: []string{path}})
			assert.LessOrEqual(t, sent, int64(weightSize+result.Bytes/50))
			assert.Greater(t, result.Reused, result.Bytes*9/10)
			u.require(1, dir)
		})
	}
	links := t.TempDir()
	require.NoError(t, os.Symlink(file, filepath.Join(links, "link")))
	result, _ := u.pull(1, t.TempDir(), model.PullOptions{Reuse: []string{links}})
	assert.Zero(t, result.Reused, "links in a directory are not followed")
}

// What cannot be reused is said before the first request.
func TestPullRefusesToReuseWhatIsNotThere(t *testing.T) {
	u, dir := newUpdated(t), filepath.Join(t.TempDir(), "model")
	before := len(u.reg.Requests())
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), ""} {
		_, err := model.Pull(t.Context(), u.name+":v1", dir, model.PullOptions{Reuse: []string{path}})
		require.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, "to reuse: ")
	}
	_, err := model.Pull(t.Context(), u.name+":v1", dir, model.PullOptions{Reuse: []string{os.DevNull}})
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.Len(t, u.reg.Requests(), before)
	assert.NoDirExists(t, dir)
}

// Whatever becomes of the files meanwhile, the model is right.
func TestPullOfWhatChangesMeanwhile(t *testing.T) {
	for _, form := range forms {
		for name, change := range map[string]func(path string) error{
			"cut": func(path string) error { return os.Truncate(path, 9<<20) },
			"rewritten": func(path string) error {
				return os.WriteFile(path, make([]byte, len(gguf()[0])), 0o644)
			},
			"gone": os.Remove,
		} {
			t.Run(string(form)+"/"+name, func(t *testing.T) {
				u, dir := newUpdated(t), t.TempDir()
				old := filepath.Join(t.TempDir(), "old.gguf")
				require.NoError(t, os.WriteFile(old, gguf()[0], 0o644))
				var once sync.Once
				trace := &transfer.Trace{Moving: func(transfer.MoveInfo) {
					once.Do(func() { assert.NoError(t, change(old)) })
				}}
				options := model.Options{Trace: trace}
				u.pull(1, dir, model.PullOptions{Options: options, Form: form, Reuse: []string{old}})
				u.require(1, dir)
			})
		}
	}
}
