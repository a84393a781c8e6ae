package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestUploadContinuesItsSessionAfterAFault(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, script := range []string{"reset(12M)", "reset(12M)->reset(3M)", "cut(12M)->ok->503"} {
			w := newWorld(t, mode, registrytest.Options{StrictState: true})
			w.reg.Fault("PUT", "/uploads/", strings.Split(script, "->")[0])
			b := w.local(20 << 20)
			require.NoError(t, w.upload(w.uploadOptions(b)), script)
			w.reg.Wait()
			assert.Zero(t, w.progress.falls)
			assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"), "the session was continued")
			assert.LessOrEqual(t, w.reg.BytesReceived(), b.Size+4<<20, "what had arrived was not sent again")
		}
	})
}

func TestU9LostSessionIsBegunAnew(t *testing.T) {
	for name, script := range map[string]string{
		"404": "404", "416": "416", "unknown": "reset(9M)",
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("PUT", "/uploads/", script)
				w.reg.Fault("GET", "/uploads/", "**404")
				b := w.local(10 << 20)
				require.NoError(t, w.upload(w.uploadOptions(b)))
				assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
			})
		})
	}
	t.Run("for ever", func(t *testing.T) {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			w.reg.Fault("PUT", "/uploads/", "**404")
			err := w.upload(w.uploadOptions(w.local(100)))
			var status *transfer.StatusError
			require.ErrorAs(t, err, &status)
			assert.Equal(t, 404, status.StatusCode)
			assert.LessOrEqual(t, w.reg.Count("PUT", "/uploads/"), 5)
		})
	})
}

// U9: a registry may tell by its error code alone that it has forgotten a session.
func TestU9SessionThatIsLostByItsErrorCode(t *testing.T) {
	for code, lost := range map[string]bool{"BLOB_UPLOAD_UNKNOWN": true, "BLOB_UPLOAD_INVALID": true, "DIGEST_INVALID": false} {
		t.Run(code, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				refused := 0
				w.reg.Configure(func(o *registrytest.Options) {
					o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
						if r.Method != http.MethodPut || refused > 0 {
							return false
						}
						refused++
						rw.WriteHeader(http.StatusBadRequest)
						_, _ = fmt.Fprintf(rw, `{"errors":[{"code":%q,"message":"no"}]}`, code)
						return true
					}
				})
				err := w.upload(w.uploadOptions(w.local(3 << 20)))
				if lost {
					require.NoError(t, err)
					assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
					return
				}
				requireStatus(t, err, http.StatusBadRequest)
				assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
			})
		})
	}
}

// U9: a session of a small blob that is out of step is not asked how much it has.
func TestU9SmallBlobIsOutOfStep(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "416")
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Count("GET", "/uploads/"))
	})
}

func TestUploadInChunksWhereBodiesAreLimited(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 3 << 20})
		b := w.local(10 << 20)
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesReceived(), b.Size+b.Size/10, "refused bodies are not sent")
		for _, r := range w.reg.Requests() {
			assert.LessOrEqual(t, r.BodyBytes, int64(3<<20))
		}
	})
}

func TestUploadChunksRespectTheLeastSize(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 7 << 20, MinChunk: 5 << 20})
		require.NoError(t, w.upload(w.uploadOptions(w.local(18<<20))))
	})
}

func TestUploadOfWhatIsRefusedInAnySizeFails(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{MaxBody: 1000})
		err := w.upload(w.uploadOptions(w.local(5 << 20)))
		var status *transfer.StatusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, http.StatusRequestEntityTooLarge, status.StatusCode)
		assert.LessOrEqual(t, len(w.reg.Requests()), 20)
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadContinuesTheSessionOfAnEarlierCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
		b := w.local(40 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		opts := w.uploadOptions(b)
		opts.Progress = func(completed, _ int64) {
			if completed > 20<<20 {
				cancel()
			}
		}
		require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)
		w.reg.Wait()
		require.Equal(t, 1, w.reg.Sessions(), "the session is kept")
		before := w.reg.BytesReceived()

		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size, w.reg.BytesReceived(), "%d bytes were there already", before)
		assert.Equal(t, 1, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestSingleRequestForSmallBlobs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, single := range []bool{true, false} {
			w := newWorld(t, mode, registrytest.Options{SingleShot: single})
			var blobs []transfer.Blob
			for i := range 20 {
				blobs = append(blobs, w.local(1000+i))
			}
			opts := w.uploadOptions(blobs...)
			opts.Concurrency = 1
			require.NoError(t, w.upload(opts))
			w.reg.Wait()
			var sum int64
			for _, b := range blobs {
				sum += b.Size
			}
			assert.Equal(t, sum, w.reg.BytesReceived(), "bytes on the wire")
			if single {
				const ahead = 4 // had begun when the trial was answered
				assert.LessOrEqual(t, len(w.reg.Requests()), 2*len(blobs)+ahead)
			} else {
				assert.Len(t, w.reg.Requests(), 3*len(blobs))
			}
		}
	})
}

// A registry that breaks the connection when a body comes with the request that begins an upload gets none of them again.
func TestSingleRequestThatBreaksTheConnection(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "digest=", "**reset")
		opts := w.uploadOptions(w.local(1000), w.local(1001), w.local(1002))
		opts.Concurrency = 1
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("POST", "digest="))
	})
}

func TestManifestWithBlobsThatTheRegistryOnlySaidItHas(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b, other := w.local(1000), w.local(2000)
		w.reg.Fault("HEAD", b.Digest, "200")
		opts := w.uploadOptions(b, other)
		opts.Manifest = fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"digest":%q,"size":1000},{"digest":%q,"size":2000}]}`, b.Digest, other.Digest)
		opts.ManifestRef = "latest"
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
		assert.Equal(t, 1, w.reg.Count("HEAD", b.Digest))
	})
}

// ollamaModes are the ways in which an Ollama registry takes a blob.
func ollamaModes() map[string]registrytest.Ollama {
	signed := http.Header{"X-Amz-Checksum-Sha256": {"abc"}, "Content-Type": {"binary/x"}}
	return map[string]registrytest.Ollama{"direct": {Direct: true, SignedHeaders: signed}, "parts": {}}
}

func TestOllamaUploads(t *testing.T) {
	for name, o := range ollamaModes() {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{Token: "secret"})
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				b := w.local(70 << 20)
				opts := w.uploadOptions(b)
				opts.Token = "secret"
				require.NoError(t, w.upload(opts))
				assert.Empty(t, store.Violations())
				assert.Empty(t, store.Tokens(), "the store must not see the token")
				assert.Equal(t, b.Size, store.BytesReceived())
				require.Len(t, store.Uploads(), 1)
				assert.Equal(t, o.Direct, store.Uploads()[0].Direct)
				post := w.reg.Requests()[1]
				assert.Equal(t, "2", post.Header.Get("X-Redirect-Uploads"))
				assert.Equal(t, fmt.Sprint(b.Size), post.Header.Get("X-Content-Length"))
			})
		})
	}
}

func TestU12SignedHeadersThatAreNotTheRegistrysBusiness(t *testing.T) {
	for _, header := range []string{"Host", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding", "Connection"} {
		t.Run(header, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				o := registrytest.Ollama{Direct: true, SignedHeaders: http.Header{header: {"x"}}}
				store := w.reg.ServeOllama(w.net, "store.test", mode, o)
				require.ErrorIs(t, w.upload(w.uploadOptions(w.local(100))), transfer.ErrProtocol)
				assert.Empty(t, store.Requests())
				assert.Equal(t, 1, w.reg.Count("POST", ""), "no second try would mend it")
			})
		})
	}
}

func TestU6U7SourceThatChangesWhileItIsSent(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"U7 other bytes": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("changed"), 9<<20)
			return errors.Join(err, f.Close())
		},
		"U6 shorter": func(path string) error { return os.Truncate(path, 8<<20) },
		"U6 longer":  func(path string) error { return os.Truncate(path, 11<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("PUT", "/uploads/", "slow(1M)")
				b := w.local(10 << 20)
				time.AfterFunc(2*time.Second, func() { assert.NoError(t, change(w.path(b))) })
				err := w.upload(w.uploadOptions(b))
				if strings.HasPrefix(name, "U7") {
					require.ErrorIs(t, err, transfer.ErrDigestMismatch)
				} else {
					require.ErrorIs(t, err, transfer.ErrSizeMismatch)
				}
				w.reg.Wait()
				_, there := w.reg.Blob(digest.Digest(b.Digest))
				assert.False(t, there)
				assert.Equal(t, 1, w.reg.Count("PUT", "/uploads/"))
				assert.Zero(t, w.reg.Sessions())
			})
		})
	}
}

// interrupted makes a call that is cancelled with half of a blob of 40 MiB sent.
func (w *world) interrupted(b transfer.Blob) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	opts := w.uploadOptions(b)
	opts.Progress = func(completed, _ int64) {
		if completed > 20<<20 {
			cancel()
		}
	}
	require.ErrorIs(w.t, transfer.Upload(ctx, opts), context.Canceled)
	w.reg.Wait()
	require.Equal(w.t, 1, w.reg.Sessions())
}

func TestUploadKeepsTheSessionOfAnEarlierCall(t *testing.T) {
	for name, c := range map[string]struct{ method, script string }{
		"while the session is asked": {"GET", "delay(1m)"}, "before a byte": {"PATCH", "stallbody(0)"}, "busy": {"GET", "**503"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{StrictState: true})
				b := w.local(40 << 20)
				w.interrupted(b)
				w.reg.Fault(c.method, "/uploads/", c.script)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				opts := w.uploadOptions(b)
				opts.Progress = nil
				require.ErrorIs(t, transfer.Upload(ctx, opts), context.DeadlineExceeded)
				w.reg.Wait()
				require.Equal(t, 1, w.reg.Sessions(), "it is for the next call")
			})
		})
	}
}

func TestUploadWhoseFileWasAnotherInAnEarlierCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{StrictState: true})
		b := w.local(40 << 20)
		wrong := slices.Clone(w.data(b))
		wrong[0] ^= 1
		require.NoError(t, os.WriteFile(w.path(b), wrong, 0o644))
		w.interrupted(b)
		require.NoError(t, os.WriteFile(w.path(b), w.data(b), 0o644))
		require.NoError(t, w.upload(w.uploadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestUploadSessionsThatAreGivenUpAreDeleted(t *testing.T) {
	for name, c := range map[string]struct{ put, patch, get string }{
		"will not tell how much":   {"reset(9M)", "ok", "**405"},
		"has more than there is":   {"reset(9M)", "ok", "**header(-range; range: 0-99999999)"},
		"tells nothing":            {"reset(9M)", "ok", "**header(-range)"},
		"out of step":              {"416", "2*416", "ok"},
		"invalid for the registry": {"invalid", "ok", "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Configure(func(o *registrytest.Options) {
					o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
						if c.put != "invalid" || r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "session-1") {
							return false
						}
						rw.WriteHeader(http.StatusBadRequest)
						_, _ = io.WriteString(rw, `{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}`)
						return true
					}
				})
				if c.put != "invalid" {
					w.reg.Fault("PUT", "/uploads/", c.put)
				}
				w.reg.Fault("PATCH", "/uploads/", c.patch)
				w.reg.Fault("GET", "/uploads/", c.get)
				require.NoError(t, w.upload(w.uploadOptions(w.local(10<<20))))
				w.reg.Wait()
				assert.Equal(t, 2, w.reg.Count("POST", "/uploads/"))
				assert.Zero(t, w.reg.Sessions())
			})
		})
	}
}

func TestManifestWhoseBlobFailsWhenItIsSentAgain(t *testing.T) {
	for _, script := range []string{"reset(1M)", "503"} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
			b := w.local(3 << 20)
			w.reg.Fault("HEAD", b.Digest, "**200")
			w.reg.Fault("PUT", "/uploads/", script)
			opts := w.uploadOptions(b)
			opts.Manifest = fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"digest":%q,"size":1000}]}`, b.Digest)
			opts.ManifestRef = "latest"
			require.NoError(t, w.upload(opts))
		})
	}
}

func TestU11DirectUploadIsSentOnce(t *testing.T) {
	for _, status := range []string{"503", "500"} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{})
			store := w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{Direct: true})
			w.reg.Fault("PUT", "", "2*"+status)
			require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
			assert.Equal(t, 1, store.Count("PUT", ""))
		})
	}
}
