package transfer_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// firstSession is where a registry takes the first upload that it opens.
const firstSession = "/v2/" + repository + "/blobs/uploads/session-1?_state=0"

func TestU1NoSessionIsOpened(t *testing.T) {
	cases := named("**202", "**200", "**204", "**200(location: /v2/library/model/blobs/uploads/x)", "**201",
		"**201+header(docker-content-digest: "+digest.FromString("x").String()+")")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "", script)
		b := w.local(3 << 20)
		begun := time.Now()
		err := w.upload(w.uploadOptions(b))
		if strings.HasPrefix(script, "**201+") {
			require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		} else {
			require.ErrorIs(t, err, transfer.ErrProtocol)
		}
		requireBlobError(t, err, b, "upload")
		assert.Equal(t, 1, w.reg.Count("POST", ""))
		assert.Less(t, time.Since(begun), noBackoff)
		w.requireNotUploaded(b)
	})
}

func TestU2Location(t *testing.T) {
	cases := map[string]string{
		"absolute":       "{registry}" + firstSession,
		"path":           firstSession,
		"relative":       "session-1?_state=0",
		"dots":           "../uploads/./session-1?_state=0",
		"odd query":      "session-1?_state=0&&x=%41+%2b&y;z=a",
		"fragment":       "session-1?_state=0#part",
		"query in place": "session-1?a=?&_state=0",
		"default port":   "{registry}{port}" + firstSession,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, location string) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret", StrictState: true})
		where := strings.NewReplacer("{registry}", w.server.URL, "{port}", w.port()).Replace(location)
		w.reg.Fault("POST", "", "header(-location; location: "+where+")")
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token = "secret"
		require.NoError(t, w.upload(opts), "the token stays with it")
		query, _, _ := strings.Cut(where[strings.Index(where, "?")+1:], "#")
		last := w.reg.Requests()[len(w.reg.Requests())-1]
		assert.Equal(t, query+"&digest="+url.QueryEscape(opts.Blobs[0].Digest), last.RawQuery,
			"the state is kept as it is")
	})
}

func TestU3LocationOnAnotherHost(t *testing.T) {
	cases := map[string]string{
		"another host": "uploads.test", "another port": "registry.test:5000", "a host below": "cdn.registry.test",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, host string) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve(host, cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+")")
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token, opts.Client = "secret", &http.Client{Transport: w.client.Transport, Jar: jar{}}
		require.NoError(t, w.upload(opts))
		requests := cdn.Requests()
		require.Len(t, requests, 1)
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			assert.Empty(t, requests[0].Header.Values(name), name)
		}
		assert.Equal(t, opts.Blobs[0].Size, requests[0].BodyBytes)
		assert.Zero(t, w.reg.Count("PUT", ""))
	})
}

func TestU3OnceLeftTheTokenStaysOff(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+elsewhere.URL+firstSession+")")
		cdn.Fault("PUT", "", "redirect("+w.server.URL+firstSession+")")
		var tokens issuer
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Token, opts.GetToken = "secret", tokens.getToken
		requireStatus(t, w.upload(opts), http.StatusUnauthorized)
		assert.Empty(t, tokens.calls())
		assert.Empty(t, cdn.Tokens())
		for _, r := range w.reg.Requests() {
			assert.Equal(t, r.Method != "PUT", r.Header.Get("Authorization") == "Bearer secret", "%s %s", r.Method,
				r.Path)
		}
	})
}

func TestU3NothingIsDeletedElsewhere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+")")
		cdn.Fault("PUT", "", "**403")
		requireStatus(t, w.upload(w.uploadOptions(w.local(3<<20))), http.StatusForbidden)
		assert.Len(t, cdn.Requests(), 1)
	})
}

// Not even where the registry says that the session is there now.
func TestU3NothingIsDeletedWhereASessionHasMoved(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("PUT", "/uploads/", "**403")
		w.reg.Fault("DELETE", "/uploads/", "**416")
		w.reg.Fault("GET", "/uploads/", "**204(location: "+
			elsewhere.URL+firstSession+")")
		requireStatus(t, w.upload(w.uploadOptions(w.local(3<<20))), http.StatusForbidden)
		assert.NotZero(t, w.reg.Count("GET", "/uploads/"))
		assert.Empty(t, cdn.Requests())
	})
}

// A session elsewhere is signed for a short time, and secret: a later call does not continue it.
func TestU3SessionElsewhereIsNotRemembered(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		w.reg.Fault("POST", "", "header(-location; location: "+
			elsewhere.URL+firstSession+"&sig=secret)")
		cdn.Fault("PUT", "", "slow(1M)")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(5*time.Second, cancel)
		b := w.local(40 << 20)
		require.ErrorIs(t, transfer.Upload(ctx, w.uploadOptions(b)), context.Canceled)
		assert.NoFileExists(t, w.sessionRecord(b))
		assert.NotContains(t, allSessionRecords(t), "sig=secret")
	})
}

// sessionRecord is the file that remembers the upload session of a blob.
func (w *world) sessionRecord(b transfer.Blob) string {
	w.t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(w.t, err)
	place := w.server.URL + "/v2/" + repository + "/blobs/" + b.Digest
	return filepath.Join(cache, "modeltransfer", "uploads", digest.FromString(place).Encoded())
}

// allSessionRecords returns what all those files say.
func allSessionRecords(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	names, err := filepath.Glob(filepath.Join(cache, "modeltransfer", "uploads", "*"))
	require.NoError(t, err)
	var all strings.Builder
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil { // it may be another test's, and gone by now
			all.Write(data)
		}
	}
	return all.String()
}

func TestU3FromHTTPSToHTTP(t *testing.T) {
	cases := named("Location", "redirect")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, how string) {
		if mode == registrytest.H1 {
			return // it is http already
		}
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		plain := w.net.Serve("registry.test", cdn, registrytest.H1)
		session := plain.URL + firstSession
		if how == "Location" {
			w.reg.Fault("POST", "", "header(-location; location: "+session+")")
		} else {
			w.reg.Fault("PUT", "", "redirect("+session+")")
		}
		begun := time.Now()
		require.ErrorIs(t, w.upload(w.uploadOptions(w.local(3<<20))), transfer.ErrRedirectRefused)
		assert.Empty(t, cdn.Requests())
		assert.Equal(t, 1, w.reg.Count("POST", ""))
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

// refusedPlaces are where no upload goes.
func refusedPlaces() map[string]string {
	return map[string]string{
		"U4 file":              "file:///etc/passwd",
		"U4 ftp":               "ftp://uploads.test/x",
		"U4 user":              "https://user:geheim@uploads.test/x",
		"U4 no host":           "https:///x",
		"U4 port alone":        "https://:443/x",
		"U4 opaque":            "https:uploads.test",
		"U4 garbage":           "https://[::1",
		"U4 bad escape":        "/%zz?sig=geheim",
		"U5 loopback":          "https://127.0.0.1:5000/x",
		"U5 loopback 2":        "https://127.9.9.9/x",
		"U5 loopback v6":       "https://[::1]/x",
		"U5 mapped":            "https://[::ffff:127.0.0.1]/x",
		"U5 localhost":         "https://localhost/x",
		"U5 localhost dot":     "https://LocalHost./x",
		"U5 below localhost":   "https://x.localhost/x",
		"U5 unspecified":       "https://0.0.0.0/x",
		"U5 metadata":          "https://169.254.169.254/latest/meta-data/",
		"U5 link-local":        "https://[fe80::1]/x",
		"U5 metadata v6":       "https://[fe80::a9fe:a9fe]/x",
		"U5 mapped link-local": "https://[::ffff:169.254.169.254]/x",
	}
}

func TestU4AndU5PlacesThatAreRefused(t *testing.T) {
	for name, place := range refusedPlaces() {
		for _, how := range []string{"Location", "redirect"} {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1TLS, registrytest.Options{})
					w.server = w.net.Serve(publicAddress, w.reg, registrytest.H1TLS)
					if how == "Location" {
						w.reg.Fault("POST", "", "**header(-location; location: "+place+")")
					} else {
						w.reg.Fault("PUT", "", "**redirect("+place+")")
					}
					begun := time.Now()
					b := w.local(3 << 20)
					err := w.upload(w.uploadOptions(b))
					require.ErrorIs(t, err, transfer.ErrRedirectRefused)
					requireBlobError(t, err, b, "upload")
					assert.NotContains(t, err.Error(), "geheim")
					assert.Equal(t, 1, w.reg.Count("POST", ""))
					assert.LessOrEqual(t, w.reg.Count("PUT", ""), 1)
					assert.Less(t, time.Since(begun), noBackoff)
				})
			})
		}
	}
}

func TestU5PlacesThatAreNot(t *testing.T) {
	type test struct{ registry, store string }
	cases := map[string]test{
		"private from public":     {publicAddress, "10.1.2.3"},
		"private from private":    {"192.168.1.2", "172.16.3.4:9000"},
		"loopback from loopback":  {"127.0.0.1:5000", "127.0.0.1:9000"},
		"localhost from loopback": {"127.0.0.1:5000", "localhost:9000"},
		"link from link":          {"169.254.1.1", "169.254.1.2"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.server = w.net.Serve(c.registry, w.reg, mode)
		w.redirectUploads(w.net.Serve(c.store, cdn, mode).URL)
		require.NoError(t, w.upload(w.uploadOptions(w.local(3<<20))))
		assert.Equal(t, 1, cdn.Count("PUT", ""))
	})
}

// U2: a Location is relative to the request that it answers, not to where the upload began.
func TestU2LocationIsRelativeToTheRequest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("POST", "", "**202(location: /deep/er/first)")
		w.reg.Fault("PUT", "first", "**413")
		w.reg.Fault("PATCH", "", "**read+202(location: second?x=y)")
		w.reg.Fault("PUT", "second", "**201")
		w.reg.Fault("", "/deep/", "**404")
		require.NoError(t, transfer.Upload(t.Context(), w.uploadOptions(w.local(3<<20))))
		requests := w.reg.Requests()
		assert.NotZero(t, w.reg.Count("PATCH", "/deep/er/first"))
		last := requests[len(requests)-1]
		assert.Equal(t, "PUT /deep/er/second", last.Method+" "+last.Path)
	})
}

// U3: an upload session that is remembered leads nowhere else either.
func TestU3RememberedSessionElsewhereIsNotUsed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Token: "secret"})
		cdn := w.reg.CDN()
		elsewhere := w.net.Serve("uploads.test", cdn, mode)
		b := w.local(40 << 20)
		name := w.sessionRecord(b)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		place := w.server.URL + "/v2/" + repository + "/blobs/" + b.Digest
		record := fmt.Appendf(nil, `{"blob":%q,"session":%q}`, place,
			elsewhere.URL+firstSession)
		require.NoError(t, os.WriteFile(name, record, 0o600))
		opts := w.uploadOptions(b)
		opts.Token = "secret"
		require.NoError(t, w.upload(opts))
		assert.Empty(t, cdn.Requests())
		assert.NoFileExists(t, name)
	})
}
