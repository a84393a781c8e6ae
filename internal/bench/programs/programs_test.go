package programs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnknownNamesAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-workload", "P9"}, {"-programs", "curl"}, {"-no-such-flag"}} {
		assert.Error(t, Main(t.Context(), args, io.Discard), args)
	}
	assert.NoError(t, Main(t.Context(), []string{"-help"}, io.Discard))
}

// TestTheTinyModelIsTheSameInBothForms follows the index of the layout to the blob.
func TestTheTinyModelIsTheSameInBothForms(t *testing.T) {
	m, err := makeModel(t.Context(), options{}, "P1", t.TempDir())
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

func TestOneFailureLeavesNoFigures(t *testing.T) {
	all := map[string][]sample{
		transferName: {{wall: 2 * time.Second}, {wall: time.Second}, {wall: 4 * time.Second}},
		"crane":      {{wall: 3 * time.Second}, {failure: "refused"}},
		"oras":       {{wall: time.Second, cpu: time.Second / 2}},
	}
	var out strings.Builder
	require.NoError(t, writeTable(&out, "P9", []string{transferName, "oras", "crane"}, all))
	assert.Contains(t, out.String(), "| transfer | 1–2–4 | 1.00 |")
	assert.Contains(t, out.String(), "| oras | 1–1–1 | 0.50 | 0.50 |")
	assert.Contains(t, out.String(), "| crane | – | | | refused |")
}

func TestAPullThatFetchedTooLittleIsAFailure(t *testing.T) {
	s := stage{model: modelFiles{dir: t.TempDir()}}
	require.NoError(t, os.WriteFile(filepath.Join(s.model.dir, "blob"), make([]byte, 10), 0o644))
	pulled := t.TempDir()
	assert.Contains(t, s.incomplete(pulled), "0 bytes, not 10")
	require.NoError(t, os.Mkdir(filepath.Join(pulled, "blobs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(pulled, "blobs", "blob"), make([]byte, 10), 0o644))
	assert.Empty(t, s.incomplete(pulled))
}

func TestWhatIsNotInstalledIsSaid(t *testing.T) {
	s := stage{options: options{tools: t.TempDir(), timeout: time.Second}, work: t.TempDir()}
	assert.Equal(t, "not installed", s.command(t.Context(), []string{"no-such-program"}).failure)
}

func TestAReasonIsTheMessageOfALog(t *testing.T) {
	assert.Equal(t, `"no / such"`, reason("first\ntime=now level=fatal msg=\"no | such\"\n"))
	assert.Equal(t, "Error: refused", reason("Error: refused\n"))
	assert.Empty(t, reason(""))
}
