package registry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

// mirrored serves a mirror of the registry, and returns it and the option that uses it.
func (w *world) mirrored(name string) (*registrytest.Registry, func(*registry.Options)) {
	w.t.Helper()
	mirror := registrytest.New(registrytest.Options{})
	url := w.net.Serve(name, mirror, w.mode).URL
	return mirror, func(o *registry.Options) { o.Mirrors = append(o.Mirrors, url) }
}

func TestManifestOfMirror(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		m := w.put("latest", "weights")
		mirror, use := w.mirrored("mirror.test")
		mirror.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
		repo := w.open(person, use)
		_, err := repo.GetToken(t.Context(), transfer.AuthChallenge{Realm: w.realm})
		require.NoError(t, err)
		for _, ref := range []string{"latest", m.Digest} {
			got, err := repo.Manifest(t.Context(), ref)
			require.NoError(t, err)
			assert.Equal(t, m, got)
		}
		assert.Empty(t, w.reg.Requests())
		require.Len(t, mirror.Requests(), 2)
		for _, r := range mirror.Requests() {
			assert.Empty(t, r.Header.Get("Authorization"), "mirrors never see the token")
			assert.Equal(t, "ns=registry.test", r.RawQuery)
		}
	})
}

func TestMirrorsThatFallThrough(t *testing.T) {
	for script, level := range map[string]slog.Level{
		"**404":          slog.LevelDebug,
		"**401":          slog.LevelWarn,
		"**403":          slog.LevelWarn,
		"**500":          slog.LevelWarn,
		"**reset":        slog.LevelWarn,
		"**stallheaders": slog.LevelWarn,
		"**flip(40)":     slog.LevelWarn,
		"**errorbody(9)+200(content-type: text/html)": slog.LevelWarn,
	} {
		t.Run(script, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				m := w.put("latest", "weights")
				mirror, use := w.mirrored("mirror.test")
				mirror.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
				mirror.Fault("", "", script)
				var log bytes.Buffer
				got, err := w.open(use, logTo(&log)).Manifest(t.Context(), m.Digest)
				require.NoError(t, err)
				assert.Equal(t, m, got)
				assert.Contains(t, log.String(), fmt.Sprintf("level=%s msg=\"mirror did not", level))
				assert.Equal(t, 1, mirror.Count("GET", ""))
			})
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		m := w.put("latest", "weights")
		_, down := w.mirrored("down.test")
		w.net.Down("down.test", registrytest.Refused())
		second, use := w.mirrored("second.test")
		second.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
		begun := time.Now()
		_, err := w.open(down, use).Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Less(t, time.Since(begun), noBackoff, "one attempt at each")
		assert.Empty(t, w.reg.Requests())
	})
}

// A mirror that asked to be left alone is, and the registry is not.
func TestN46MirrorIsLeftAlone(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		m := w.put("latest", "weights")
		mirror, use := w.mirrored("mirror.test")
		mirror.Fault("", "", "**503(retry-after: 100)")
		w.reg.Fault("GET", "", "2*502")
		begun := time.Now()
		got, err := w.open(use).Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Equal(t, m, got)
		assert.Equal(t, 1, mirror.Count("", ""))
		assert.Less(t, time.Since(begun), 2*time.Second)
	})
}

// One mirror that is dead costs three requests and one warning, however many calls there are. It is asked
// again half a minute later.
func TestE8DeadMirrorOfManyCalls(t *testing.T) {
	for _, script := range []string{"**503", "**hangup", "**stallheaders", "**401", "**page"} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			m := w.put("latest", "weights")
			mirror, use := w.mirrored("mirror.test")
			dead := mirror.Fault("", "", script)
			var log bytes.Buffer
			repo := w.open(use, logTo(&log))
			for range 46 {
				_, err := repo.Manifest(t.Context(), "latest")
				require.NoError(t, err)
				got, err := readBlob(t.Context(), repo, blobOf([]byte("weights")))
				require.NoError(t, err)
				assert.Equal(t, "weights", string(got))
				time.Sleep(200 * time.Millisecond)
			}
			assert.Equal(t, 3, mirror.Count("", ""), script)
			assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), script)
			dead.Stop()
			mirror.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
			time.Sleep(30 * time.Second)
			before := len(w.reg.Requests())
			for range 3 {
				_, err := repo.Manifest(t.Context(), "latest")
				require.NoError(t, err)
			}
			assert.Len(t, w.reg.Requests(), before, script)
		})
	}
}

// A mirror that comes back is asked again while the registry is down.
func TestMirrorIsAskedAgain(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		m := w.put("latest", "weights")
		mirror, use := w.mirrored("mirror.test")
		mirror.PutManifest(repository, "latest", registry.MediaTypeManifest, m.Data)
		mirror.Fault("", "", "2*502")
		gone, lacking := w.mirrored("lacking.test")
		w.reg.Fault("GET", "", "**503")
		_, err := w.open(lacking, use).Manifest(t.Context(), "latest")
		require.NoError(t, err)
		assert.Equal(t, 3, mirror.Count("", ""))
		assert.Equal(t, 1, gone.Count("", ""), "one that has it not will not have it later")
	})
}

// The error is that of the registry, whatever the mirrors said.
func TestMirrorsAndRegistryFail(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		mirror, use := w.mirrored("mirror.test")
		mirror.Fault("", "", "**403")
		_, err := w.open(use).Manifest(t.Context(), "latest")
		requireStatus(t, err, 404)
		assert.False(t, strings.Contains(err.Error(), "mirror.test"))
	})
}
