package referrers

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// The tag is one that every registry takes, and no longer than the specification allows.
func TestG3Tag(t *testing.T) {
	hex := strings.Repeat("a", 128)
	for subject, want := range map[digest.Digest]string{
		digest.Digest("sha256:" + hex[:64]):                    "sha256-" + hex[:64],
		digest.Digest("sha512:" + hex):                         "sha512-" + hex[:64],
		digest.Digest("sha256+b64u.x:" + "A=_-" + hex):         "sha256-b64u.x-A-_-" + hex[:60],
		digest.Digest(strings.Repeat("b", 40) + ":" + hex[:3]): strings.Repeat("b", 32) + "-aaa",
	} {
		assert.Equal(t, want, tag(subject))
		require.NoError(t, wire.CheckTag(tag(subject)))
	}
}

func TestG3Subject(t *testing.T) {
	of, ref := digest.FromString("subject"), digest.SHA512.FromString("x").String()
	data := []byte(`{"subject":{"digest":"` + of.String() + `"},` +
		`"config":{"mediaType":"c"},"annotations":{"a":"b"}}`)
	subject, entry, err := Subject(ref, data, "m")
	require.NoError(t, err)
	assert.Equal(t, of, subject)
	assert.Equal(t, Descriptor{
		MediaType: "m", ArtifactType: "c", Digest: digest.Digest(ref), Size: int64(len(data)),
		Annotations: map[string]string{"a": "b"},
	}, entry)
	for _, none := range []string{``, `{}`, `[]`, `{"subject":null}`, `x`} {
		subject, _, err := Subject("latest", []byte(none), "m")
		require.NoError(t, err)
		assert.Empty(t, subject)
	}
	_, _, err = Subject("latest", []byte(`{"subject":{}}`), "m")
	require.ErrorIs(t, err, sentinel.ErrManifest)
}

func TestG3OneWriterForEachList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		var inside atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				unlock, err := k.lock(t.Context(), "a")
				if assert.NoError(t, err) {
					assert.EqualValues(t, 1, inside.Add(1))
					inside.Add(-1)
					unlock()
				}
			})
		}
		all.Wait()
		assert.Empty(t, k.taken, "nothing is left")

		unlock, err := k.lock(t.Context(), "a")
		require.NoError(t, err)
		other, err := k.lock(t.Context(), "b")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		_, err = k.lock(ctx, "a")
		require.ErrorIs(t, err, context.Canceled)
		unlock()
		other()
	})
}
