package contender

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func blobOf(content string) Blob {
	sum := sha256.Sum256([]byte(content))
	return Blob{Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(content))}
}

func TestKnown(t *testing.T) {
	for _, name := range Names() {
		require.NoError(t, Known(name))
		require.NoError(t, Known(name+"@8"))
	}
	assert.Len(t, contenders(), len(Names()))
	for _, name := range []string{"", "nobody", "floor@", "floor@0", "floor@x"} {
		require.Error(t, Known(name), name)
	}
	assert.Equal(t, 8, (&Job{Contender: "oras@8"}).workers())
	assert.Equal(t, defaultWorkers, (&Job{Contender: "oras"}).workers())
	assert.Zero(t, (&Job{Contender: "transfer"}).fixed())
}

func TestWrongContentIsRefused(t *testing.T) {
	s, path, b := newSaver(), filepath.Join(t.TempDir(), "blob"), blobOf("right")
	require.NoError(t, s.save(path, b, strings.NewReader("right"), library{}))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "right", string(got))
	require.ErrorIs(t, s.save(path, b, strings.NewReader("wrong"), library{}), errContent)
	require.ErrorIs(t, s.save(path, b, strings.NewReader("righ"), library{}), errContent)
	require.ErrorIs(t, s.save(path, b, strings.NewReader("righ"), library{verifies: true}), errContent)
}

// outcome is what a process says of a job.
func outcome(t *testing.T, j Job) (o Outcome) {
	t.Helper()
	in, err := json.Marshal(j)
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, Main(t.Context(), strings.NewReader(string(in)), &out))
	require.NoError(t, json.Unmarshal([]byte(out.String()), &o))
	return o
}

func TestFailureIsPartOfTheOutcome(t *testing.T) {
	j := Job{BaseURL: "http://127.0.0.1:1", Repository: "r", Dir: t.TempDir(), Blobs: []Blob{blobOf("a")}}
	j.Contender = "floor"
	o := outcome(t, j)
	assert.Contains(t, o.Error, "connection refused")
	assert.Positive(t, o.Wall)
	assert.Positive(t, o.RSS)
	j.Contender, j.Upload = "curl", true
	assert.Equal(t, "cannot upload", outcome(t, j).Cannot)
	j.Contender, j.Upload, j.Blobs = "aria2c", false, make([]Blob, manyBlobs+1)
	assert.NotEmpty(t, outcome(t, j).Cannot)
	require.Error(t, Main(t.Context(), strings.NewReader("{"), nil))
	var o2 Outcome
	o2.fail(errors.New("x"))
	assert.Equal(t, "x", o2.Error)
}
