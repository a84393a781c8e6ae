package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// guarded are the requests that a registry may answer with 401.
var guarded = []struct{ name, method, path string }{
	{"GET", "GET", "/blobs/"},
	{"HEAD", "HEAD", "/blobs/"},
	{"POST", "POST", "/uploads/"},
	{"PUT", "PUT", "/uploads/"},
	{"manifest", "PUT", "/manifests/"},
}

// issuer gives out tokens.
type issuer struct {
	give func(ctx context.Context, n int) (string, error) // n is 1 at first; nil gives "token-n"

	mu    sync.Mutex // guards the field that follows
	asked []transfer.AuthChallenge
}

func (i *issuer) getToken(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	i.mu.Lock()
	i.asked = append(i.asked, challenge)
	n := len(i.asked)
	i.mu.Unlock()
	if i.give != nil {
		return i.give(ctx, n)
	}
	return fmt.Sprintf("token-%d", n), nil
}

func (i *issuer) calls() []transfer.AuthChallenge {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// tokenAfter returns a function that gives a token after a while.
func tokenAfter(wait time.Duration, token string) func(context.Context, int) (string, error) {
	return func(context.Context, int) (string, error) {
		time.Sleep(wait)
		return token, nil
	}
}

// tokenFunc is a GetToken of the options.
type tokenFunc = func(context.Context, transfer.AuthChallenge) (string, error)

// move makes a call in which one of the guarded requests occurs once, with an old token.
func (w *world) move(ctx context.Context, request string, getToken tokenFunc) error {
	if request == "GET" {
		opts := w.downloadOptions(w.remote(64 << 10))
		opts.Token, opts.GetToken = "old", getToken
		err := transfer.Download(ctx, opts)
		w.checkDownload(opts, err)
		return err
	}
	opts := w.uploadOptions(w.local(3 << 20))
	opts.Token, opts.GetToken = "old", getToken
	opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
	err := transfer.Upload(ctx, opts)
	w.progress.check(w.t, err)
	if err == nil {
		assert.EqualValues(w.t, opts.Blobs[0].Size+2, w.reg.BytesReceived(), "a refused body is not sent")
	} else if request != "manifest" {
		assert.Zero(w.t, w.reg.Count("PUT", "/manifests/"), "the manifest of a blob that failed")
	}
	w.reg.Wait()
	assert.Zero(w.t, w.reg.Sessions())
	return err
}

func TestN22UnauthorizedWithoutGetToken(t *testing.T) {
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(g.method, g.path, "**401")
				begun := time.Now()
				status := requireStatus(t, w.move(t.Context(), g.name, nil), http.StatusUnauthorized)
				assert.Equal(t, g.method, status.Method)
				assert.Equal(t, 1, w.reg.Count(g.method, g.path))
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}

func TestN23UnauthorizedOnce(t *testing.T) {
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(g.method, g.path, fmt.Sprintf(
					`401(www-authenticate: Bearer realm="%s/token",`+
						`service="registry.test",scope="repository:x:pull,push")`, w.server.URL))
				var tokens issuer
				require.NoError(t, w.move(t.Context(), g.name, tokens.getToken))
				assert.Equal(t, []transfer.AuthChallenge{
					{Realm: w.server.URL + "/token", Service: "registry.test",
						Scope: "repository:x:pull,push"},
				}, tokens.calls())
				assert.Equal(t, 2, w.reg.Count(g.method, g.path))
				assert.Equal(t, []string{"Bearer old", "Bearer token-1"}, w.reg.Tokens())
			})
		})
	}
}

func TestN23TokenWithoutChallenge(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "/blobs/", "401")
		var tokens issuer
		require.NoError(t, w.move(t.Context(), "HEAD", tokens.getToken))
		assert.Equal(t, []transfer.AuthChallenge{{}}, tokens.calls())
	})
}

func TestN23TokensExpireInTheMiddle(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		const life = 500 * time.Millisecond
		begun := time.Now()
		valid := func() string { return fmt.Sprintf("token-%d", time.Since(begun)/life) }
		w := newWorld(t, mode, registrytest.Options{
			Access: registrytest.Access{CheckToken: func(r *http.Request) bool {
				return r.Header.Get("Authorization") == "Bearer "+valid()
			}},
			Latency: 100 * time.Millisecond,
		})
		tokens := issuer{give: func(context.Context, int) (string, error) { return valid(), nil }}
		opts := w.uploadOptions()
		for i := range 40 {
			opts.Blobs = append(opts.Blobs, w.local(1000+i))
		}
		opts.GetToken, opts.Concurrency = tokens.getToken, 2
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		require.NoError(t, w.upload(opts))
		assert.Greater(t, len(tokens.calls()), 2)
		assert.LessOrEqual(t, len(tokens.calls()), int(time.Since(begun)/life)+1,
			"each token is used as long as it lives")
	})
}

func TestN23RefreshIsCoalesced(t *testing.T) {
	cases := named("download", "upload")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, direction string) {
		w := newWorld(t, mode, registrytest.Options{Token: "token-1", Latency: 100 * time.Millisecond})
		tokens := issuer{give: tokenAfter(3*time.Second, "token-1")}
		down, up := w.downloadOptions(), w.uploadOptions()
		for i := range 32 {
			down.Blobs, up.Blobs = append(down.Blobs, w.remote(100+i)), append(up.Blobs, w.local(200+i))
		}
		down.GetToken, up.GetToken = tokens.getToken, tokens.getToken
		down.Concurrency, up.Concurrency = 32, 32
		down.BodyConcurrency = 32 // or few begin
		if direction == "upload" {
			require.NoError(t, w.upload(up))
		} else {
			require.NoError(t, w.download(down))
		}
		assert.Len(t, tokens.calls(), 1)
		refused := 0
		for _, r := range w.reg.Requests() {
			if r.Status == http.StatusUnauthorized {
				refused++
			}
		}
		assert.Equal(t, 32, refused)
	})
}

func TestN24UnauthorizedForEver(t *testing.T) {
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault(g.method, g.path, "**401")
				var tokens issuer
				begun := time.Now()
				requireStatus(t, w.move(t.Context(), g.name, tokens.getToken), http.StatusUnauthorized)
				assert.Len(t, tokens.calls(), 2)
				assert.Equal(t, 3, w.reg.Count(g.method, g.path))
				assert.Less(t, time.Since(begun), noBackoff)
			})
		})
	}
}

func TestN24SameTokenAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "/blobs/", "**401")
		tokens := issuer{give: func(context.Context, int) (string, error) { return "old", nil }}
		requireStatus(t, w.move(t.Context(), "HEAD", tokens.getToken), http.StatusUnauthorized)
		assert.LessOrEqual(t, len(tokens.calls()), 2)
		assert.LessOrEqual(t, w.reg.Count("HEAD", ""), 3)
	})
}

func TestN25GetTokenFails(t *testing.T) {
	errNoToken := errors.New("no token today")
	for name, c := range map[string]struct {
		give func(context.Context, int) (string, error)
		want string
	}{
		"error": {func(context.Context, int) (string, error) {
			return "secret", errNoToken
		}, "no token today"},
		"panic": {func(context.Context, int) (string, error) { panic("on the table") }, "on the table"},
		"goexit": {func(context.Context, int) (string, error) { runtime.Goexit(); return "", nil },
			"did not return"},
	} {
		for _, g := range guarded {
			t.Run(name+" "+g.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, registrytest.H1, registrytest.Options{})
					w.reg.Fault(g.method, g.path, "**401")
					tokens := issuer{give: c.give}
					begun := time.Now()
					err := w.move(t.Context(), g.name, tokens.getToken)
					require.ErrorContains(t, err, c.want)
					assert.Equal(t, name == "error", errors.Is(err, errNoToken))
					assert.NotContains(t, err.Error(), "secret")
					assert.Len(t, tokens.calls(), 1)
					assert.Equal(t, 1, w.reg.Count(g.method, g.path))
					assert.Less(t, time.Since(begun), noBackoff)
				})
			})
		}
	}
}

func TestN25GetTokenBlocks(t *testing.T) {
	cases := map[string]bool{"heeds its context true": true, "heeds its context false": false}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, heeds bool) {
		w := newWorld(t, mode, registrytest.Options{Token: "x"})
		end := make(chan struct{})
		defer close(end)
		ended := atomic.Bool{}
		tokens := issuer{give: func(ctx context.Context, _ int) (string, error) {
			if heeds {
				<-ctx.Done()
				time.Sleep(500 * time.Millisecond) // it has to tidy up first
				ended.Store(true)
				return "", ctx.Err()
			}
			<-end
			return "", nil
		}}
		reason := errors.New("lunch")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(reason) })
		opts := w.uploadOptions()
		for i := range 10 {
			opts.Blobs = append(opts.Blobs, w.local(100+i))
		}
		opts.GetToken = tokens.getToken
		begun := time.Now()
		err := transfer.Upload(ctx, opts)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, reason)
		assert.Len(t, tokens.calls(), 1)
		assert.LessOrEqual(t, time.Since(begun), 7*time.Second)
		assert.Equal(t, heeds, ended.Load(), "one that ends has ended when Upload returns")
	})
}

// A person may have to log in somewhere before there is a token.
func TestN25GetTokenTakesItsTime(t *testing.T) {
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				w.reg.Fault(g.method, g.path, "401")
				tokens := issuer{give: tokenAfter(2*time.Minute, "new")}
				begun := time.Now()
				require.NoError(t, w.move(t.Context(), g.name, tokens.getToken))
				assert.Len(t, tokens.calls(), 1)
				assert.Equal(t, 2, w.reg.Count(g.method, g.path), "waiting for a token is no stall")
				assert.InDelta(t, 2*time.Minute, time.Since(begun), float64(noBackoff))
			})
		})
	}
}

// S20: a token that expires while the registry wants to be left alone costs a refresh, and no wait of
// its own.
func TestS20UnauthorizedDuringRetryAfter(t *testing.T) {
	cases := map[string][2]string{
		"one after the other": {"429(retry-after: 60)->401", "ok"},
		"of another blob":     {"429(retry-after: 60)", "delay(1s)+401"},
		"in the middle":       {"eof(300K)->503(retry-after: 60)->401", "ok"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, scripts [2]string) {
		w := newWorld(t, mode, registrytest.Options{})
		b, other := w.remote(mebibyte), w.remote(1000)
		w.reg.Fault("GET", b.Digest, scripts[0])
		w.reg.Fault("GET", other.Digest, scripts[1])
		var tokens issuer
		opts := w.downloadOptions(b, other)
		opts.Token, opts.GetToken = "old", tokens.getToken
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Len(t, tokens.calls(), 1)
		assert.InDelta(t, 60, took.Seconds(), 2)
		assert.Zero(t, w.progress.falls)
		w.requireOnly(b, other)
	})
}

// A 401 of the object store says nothing of our token, and must not have it refreshed.
func TestUnauthorizedElsewhere(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		cdn.Fault("PUT", "", "**401(www-authenticate: Bearer realm=\"https://evil.test/token\")")
		var tokens issuer
		requireStatus(t, w.move(t.Context(), "PUT", tokens.getToken), http.StatusUnauthorized)
		assert.Empty(t, tokens.calls())
		assert.Empty(t, cdn.Tokens())
	})
}

// publicAddress is the host of a registry of which no resolver need be asked where it is.
const publicAddress = "203.0.113.5"

func TestI12Realms(t *testing.T) {
	cases := map[string]bool{
		"https://auth.test/token":       true,
		"http://auth.test/token":        false, // for a registry with https
		"https://10.1.2.3/token":        true,
		"file:///etc/passwd":            false,
		"ftp://auth.test/token":         false,
		"https://169.254.169.254/":      false,
		"https://127.0.0.1/token":       false,
		"https://localhost:8080/token":  false,
		"https://user:geheim@auth.test": false,
		"https:///token":                false,
		"https://[::1":                  false,
		"auth.test/token":               false,
		"javascript:alert(1)":           false,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, realm string, fine bool) {
		fine = fine || mode == registrytest.H1 && realm == "http://auth.test/token"
		w := newWorld(t, mode, registrytest.Options{})
		w.server = w.net.Serve(publicAddress, w.reg, mode)
		w.reg.Fault("HEAD", "/blobs/", fmt.Sprintf("401(www-authenticate: Bearer realm=%q)", realm))
		var tokens issuer
		err := w.move(t.Context(), "HEAD", tokens.getToken)
		if fine {
			require.NoError(t, err)
			assert.Equal(t, realm, tokens.calls()[0].Realm)
			return
		}
		require.ErrorIs(t, err, transfer.ErrRedirectRefused)
		assert.NotContains(t, err.Error(), "geheim")
		assert.Empty(t, tokens.calls())
		assert.Len(t, w.reg.Requests(), 1)
	})
}

func TestI12HugeChallenge(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		challenge := `Bearer realm="` + strings.Repeat("x", 1<<18)
		w := newWorld(t, mode, registrytest.Options{
			Token: "token-1", Access: registrytest.Access{Challenge: challenge},
		})
		var tokens issuer
		err := w.move(t.Context(), "HEAD", tokens.getToken)
		require.ErrorIs(t, err, transfer.ErrRedirectRefused)
		assert.Less(t, len(err.Error()), 1000)
		assert.Empty(t, tokens.calls())
	})
}

// secrets are what must not be told: tokens old and new, what signs a URL, what a session hides in its state.
var secrets = []string{"geheim", "top-secret", "signed", "_state=0", "_state=1", "crumbs"}

func TestI15SecretsInErrorsAndLogs(t *testing.T) {
	type test struct{ host, method, path, script string }
	cases := map[string]test{
		"nothing goes wrong": {"registry", "POST", "", "ok"},
		"store refuses":      {"cdn", "PUT", "", "**403"},
		"store fails":        {"cdn", "PUT", "", "**503"},
		"store hangs up":     {"cdn", "PUT", "", "**reset"},
		"store stalls":       {"cdn", "PUT", "", "**stallbody(10)"},
		"store leads to ftp": {"cdn", "PUT", "", "**redirect(ftp://geheim:geheim@x.test/?sig=geheim)"},
		"garbage redirect":   {"registry", "PUT", "/uploads/", "**redirect(https://x.test:port/?sig=geheim)"},
		"garbage Location": {"registry", "POST", "",
			"**header(-location; location: https://x.test/%zz?sig=geheim)"},
		"loop":                  {"registry", "PUT", "/uploads/", "**redirect(?sig=geheim)"},
		"unknown host":          {"registry", "PUT", "/uploads/", "**redirect(//unknown.test/?sig=geheim)"},
		"registry refuses":      {"registry", "", "", "**403"},
		"registry fails":        {"registry", "HEAD", "", "**502"},
		"manifest is refused":   {"registry", "PUT", "/manifests/", "**400"},
		"manifest in the wrong": {"registry", "PUT", "/manifests/", "**redirect(https://user:geheim@x.test)"},
		"no token":              {"registry", "POST", "", "**401"},
		"realm with a password": {"registry", "POST", "",
			`401(www-authenticate: Bearer realm="https://u:geheim@x.test?sig=geheim")`},
		"session is not forgotten": {"registry", "DELETE", "", "**500"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, fault test) {
		w := newWorld(t, mode, registrytest.Options{Token: "top-secret"})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		add := w.reg.Fault
		if fault.host == "cdn" {
			add = cdn.Fault
		}
		script := add(fault.method, fault.path, fault.script)
		if fault.method == "DELETE" { // only an upload that fails deletes its session
			cdn.Fault("PUT", "", "**403")
		}
		var book logBook
		opts := w.uploadOptions(w.local(3<<20), w.local(100))
		opts.Token, opts.Logger, opts.Concurrency = "geheim", book.logger(), 1
		opts.Client = &http.Client{Transport: w.client.Transport, Jar: jar{}}
		opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) {
			return "top-secret", nil
		}
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		if err := w.upload(opts); err != nil {
			for _, form := range []string{"%v", "%+v", "%q"} {
				requireNoSecrets(t, fmt.Sprintf(form, err))
			}
			var status *transfer.StatusError
			if errors.As(err, &status) {
				requireNoSecrets(t, fmt.Sprintf("%+v", *status))
			}
		}
		assert.True(t, script.Done())
		assert.NotEmpty(t, book.String())
		requireNoSecrets(t, book.String())
	})
}

// I15: whatever goes wrong, no token and no signature is told.
func TestI15DownloadTellsNoSecrets(t *testing.T) {
	cases := named(
		"**403", "503->stall(10)->**404", "**redirect(https://user:signed@elsewhere.test/?sig=signed)",
		"**302(location: /x?sig=signed)", "flip(1)",
	)
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		var book logBook
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		fault := cdn.Fault("GET", b.Digest, script)
		opts := w.withToken(w.downloadOptions(b))
		opts.Mirrors = []string{strings.Replace(w.server.URL, "registry.test", "down.test", 1)}
		opts.Logger = book.logger()
		err := w.download(opts)
		assert.True(t, fault.Done())
		told := book.String() + fmt.Sprintf("%v %+v", err, err)
		assert.Contains(t, told, b.Digest)
		assert.NotContains(t, told, "signed")
		assert.NotContains(t, told, "secret")
	})
}

// A registry may quote what it was sent, where a long token is cut short.
func TestI15RegistryQuotesTheToken(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 40)
	for name, body := range map[string]string{
		"message": `{"errors":[{"code":"DENIED","message":"bad token top-secret-token!"}]}`,
		"code":    `{"errors":[{"code":"top-secret-token","message":"x"}]}`,
		"header":  `{"errors":[{"code":"DENIED","message":"Authorization: Bearer top-secret-token"}]}`,
		"twice": `{"errors":[{"message":"top-secret-token top-secret-token"},` +
			`{"code":"top-secret-token"}]}`,
		"long":             `{"errors":[{"message":"bad token ` + long + `"}]}`,
		"long, cut short":  `{"errors":[{"message":"` + strings.Repeat("x", 240) + long + `"}]}`,
		"cut at the token": `{"errors":[{"message":"` + strings.Repeat("x", 245) + `top-secret-token"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				w.reg.Fault("", "", "**says(403, "+body+")")
				var book logBook
				opts := w.uploadOptions(w.local(3 << 20))
				opts.Token, opts.Logger = "top-secret-token", book.logger()
				if strings.Contains(name, "long") {
					opts.Token = long
				}
				err := w.upload(opts)
				status := requireStatus(t, err, http.StatusForbidden)
				for _, told := range []string{err.Error(), fmt.Sprintf("%+v", *status), book.String()} {
					assert.NotContains(t, told, "top-secre")
					assert.NotContains(t, told, "0123456789")
				}
			})
		})
	}
}
