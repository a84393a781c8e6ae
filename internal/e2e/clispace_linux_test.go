package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Somebody fills the disk in the middle of a pull by the command line program, and frees it again.
func TestS1CLIFullDiskInTheMiddleOfAPull(t *testing.T) {
	const size = 96 * mib
	d := newDam(newDistribution(t).handler(t))
	s := serve(t, d, false)
	made, disk := t.TempDir(), tmpfs(t, "160m")
	require.NoError(t, os.WriteFile(filepath.Join(made, "model.gguf"), randomBytes(t, 1, size), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(made, "config.json"), randomBytes(t, 2, 500), 0o644))
	c := newCLI(t)
	ref, pulled := s.url+"/me/model:v1", filepath.Join(disk, "model")
	c.must(t, "push", made, ref)
	s.forget()

	filler := filepath.Join(disk, "filler")
	d.close(t, size/2, func() {
		fillDisk(filler)
		d.open()
	})
	begun := time.Now()
	stdout, stderr, code := c.run(t.Context(), "", "pull", "--body-concurrency", "2", ref, pulled)
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Regexp(t, `(?m)^transfer: .*no space left on device`, stderr)
	assert.Regexp(t, `(?m)^hint: [0-9.]+ MB are missing: .* are still to be fetched to .*; free`, stderr)
	assert.Less(t, time.Since(begun), 10*time.Second, "a full disk is not waited for")
	first := sumSent(s.seen(kind(kindBlob)))
	s.forget()

	require.NoError(t, os.Remove(filler))
	stdout = c.must(t, "pull", ref, pulled)
	assert.Regexp(t, `\([0-9.]+ MB there already\)`, stdout)
	requireSameFiles(t, made, pulled)
	second := sumSent(s.seen(kind(kindBlob)))
	t.Logf("%d bytes fetched, then %d of %d", first, second, int64(size))
	assert.Less(t, second, int64(size)*3/4, "what was on the disk is not fetched again")
	assert.LessOrEqual(t, first+second, int64(size)*13/10)
}

func TestS1CLIDiskThatIsTooSmall(t *testing.T) {
	s, made, disk := newDistribution(t).serve(t), t.TempDir(), tmpfs(t, "8m")
	require.NoError(t, os.WriteFile(filepath.Join(made, "model.gguf"), randomBytes(t, 1, 20*mib), 0o644))
	c := newCLI(t)
	c.must(t, "push", made, s.url+"/me/model:v1")
	s.forget()
	_, stderr, code := c.run(t.Context(), "", "pull", s.url+"/me/model:v1", filepath.Join(disk, "model"))
	assert.Equal(t, 1, code)
	assert.Regexp(t, `(?m)^hint: 13 MB are missing: 21 MB are still to be .* and 8.4 MB are free`, stderr)
	assert.Empty(t, s.seen(kind(kindBlob)), "nothing is fetched that has no space")
}
