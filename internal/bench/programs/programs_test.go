package programs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryProgramSaysHowItMovesAModel(t *testing.T) {
	here := place{modelFiles: modelFiles{"dir", "layout"}}
	there := place{ref: "127.0.0.1:5000/bench/model:latest"}
	for _, name := range Names() {
		for _, way := range [][2]place{{here, there}, {there, here}, {there, there}} {
			line := strings.Join(find(name).move(way[0], way[1]), " ")
			assert.Contains(t, line, there.ref)
			assert.Regexp(t, "push|pull|copy", line)
		}
	}
	assert.Nil(t, find("curl").move)
}

// TestTheTinyModelIsTheSameInBothForms follows the index of the layout to the blob.
func TestTheTinyModelIsTheSameInBothForms(t *testing.T) {
	m, err := makeModel(t.Context(), Model{}, "", t.TempDir())
	require.NoError(t, err)
	read := func(path ...string) []byte {
		data, err := os.ReadFile(filepath.Join(path...))
		require.NoError(t, err)
		return data
	}
	var index struct{ Manifests []struct{ Digest string } }
	require.NoError(t, json.Unmarshal(read(m.layout, "index.json"), &index))
	require.Len(t, index.Manifests, 1)
	blob := func(digest string) []byte {
		name := strings.TrimPrefix(digest, "sha256:")
		data := read(m.layout, "blobs", "sha256", name)
		sum := sha256.Sum256(data)
		assert.Equal(t, name, hex.EncodeToString(sum[:]))
		return data
	}
	manifest := blob(index.Manifests[0].Digest)
	assert.Equal(t, read(m.dir, manifestName), manifest)
	var parsed struct{ Config struct{ Digest string } }
	require.NoError(t, json.Unmarshal(manifest, &parsed))
	assert.Len(t, blob(parsed.Config.Digest), 50)
}

func TestAPullThatFetchedTooLittleIsAFailure(t *testing.T) {
	s := Stage{model: modelFiles{dir: t.TempDir()}}
	require.NoError(t, os.WriteFile(filepath.Join(s.model.dir, "blob"), make([]byte, 10), 0o644))
	pulled := t.TempDir()
	assert.Contains(t, s.incomplete(pulled), "0 bytes, not 10")
	require.NoError(t, os.Mkdir(filepath.Join(pulled, "blobs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(pulled, "blobs", "blob"), make([]byte, 10), 0o644))
	assert.Empty(t, s.incomplete(pulled))
}

func TestWhatIsNotInstalledIsSaid(t *testing.T) {
	s := Stage{tools: t.TempDir(), timeout: time.Second, work: t.TempDir()}
	failure := s.command(t.Context(), []string{"no-such-program"}).Error
	assert.Contains(t, failure, filepath.Join(s.tools, "no-such-program"))
}

func TestAReasonIsTheMessageOfALog(t *testing.T) {
	assert.Equal(t, `"no / such"`, reason("first\ntime=now level=fatal msg=\"no | such\"\n"))
	assert.Equal(t, "Error: refused", reason("Error: refused\n"))
	assert.Empty(t, reason(""))
}
