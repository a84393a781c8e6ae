package transfer_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestN18UploadRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		least  time.Duration
		most   time.Duration
	}{
		"429":        {"429(retry-after: 7)", 7 * time.Second, 8 * time.Second},
		"503":        {"503(retry-after: 7)", 7 * time.Second, 8 * time.Second},
		"twice":      {"2*503(retry-after: 7)", 14 * time.Second, 15 * time.Second},
		"capped":     {"503(retry-after: 1000000000)", 2 * time.Minute, 3 * time.Minute},
		"junk":       {"503(retry-after: soon)", 0, time.Second},
		"not a wait": {"503(retry-after: -1)", 0, time.Second},
	} {
		for _, g := range guarded[1:] {
			t.Run(name+" "+g.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, c.script)
					begun := time.Now()
					require.NoError(t, w.move(t.Context(), g.name, nil))
					assert.GreaterOrEqual(t, time.Since(begun), c.least)
					assert.Less(t, time.Since(begun), c.most)
				})
			})
		}
	}
}

func TestUploadN20TemporaryStatus(t *testing.T) {
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 522, 524} {
		for _, g := range guarded[1:] {
			t.Run(fmt.Sprintf("%d %s", code, g.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					fault := w.reg.Fault(g.method, g.path, fmt.Sprintf("3*%d", code))
					begun := time.Now()
					require.NoError(t, w.move(t.Context(), g.name, nil))
					assert.True(t, fault.Done())
					assert.Greater(t, time.Since(begun), 700*time.Millisecond, "0.1 + 0.2 + 0.4 s at least")
					assert.Less(t, time.Since(begun), 2*time.Second)
				})
			})
		}
	}
}

func TestN20UploadTemporaryStatusForEver(t *testing.T) {
	for _, g := range guarded[1:] {
		t.Run(g.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(g.method, g.path, "**503")
				begun := time.Now()
				err := w.move(t.Context(), g.name, nil)
				requireStatus(t, err, http.StatusServiceUnavailable)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				assert.InDelta(t, 5, time.Since(begun).Minutes(), 0.5, "minutes")
				assert.LessOrEqual(t, w.reg.Count(g.method, g.path), 40)
				if g.name != "manifest" {
					var blob *transfer.BlobError
					require.ErrorAs(t, err, &blob)
					assert.Greater(t, blob.Attempts, 10)
				}
			})
		})
	}
}

func TestUploadN21PermanentStatus(t *testing.T) {
	for _, code := range []int{300, 304, 400, 402, 403, 404, 405, 406, 409, 410, 415, 451, 501, 505} {
		for _, g := range guarded[2:] {
			if code == http.StatusNotFound && g.name == "PUT" {
				continue // the session is lost: U9
			}
			t.Run(fmt.Sprintf("%d %s", code, g.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, fmt.Sprintf("**%d", code))
					begun := time.Now()
					requireStatus(t, w.move(t.Context(), g.name, nil), code)
					tries := 1
					if g.name == "PUT" && (code == 400 || code == 405 || code == 501) {
						tries = 2 // U29: once of the whole, and once after a PATCH
					}
					assert.Equal(t, tries, w.reg.Count(g.method, g.path))
					assert.Less(t, time.Since(begun), noBackoff)
				})
			})
		}
	}
}

func TestI13UploadErrorBodies(t *testing.T) {
	for _, script := range []string{"**403+errorbody(1G)", "**403+errorbody(endless)"} {
		for _, g := range guarded[2:] { // a HEAD has none
			t.Run(script+" "+g.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, script)
					err := w.move(t.Context(), g.name, nil)
					requireStatus(t, err, http.StatusForbidden)
					assert.Less(t, len(err.Error()), 1000)
					w.reg.Wait()
					assert.Less(t, w.reg.BytesSent(), int64(2<<20))
				})
			})
		}
	}
}
