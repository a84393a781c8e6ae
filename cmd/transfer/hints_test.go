package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEachFailureHasItsHint(t *testing.T) {
	r, err := ref.Parse("registry.example/me/model")
	require.NoError(t, err)
	full := &os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	const tags = "list what is there: transfer tags registry.example/me/model"
	missing := &net.DNSError{Name: "registry.example", IsNotFound: true}
	nginx := &transfer.StatusError{StatusCode: 400, Errors: []transfer.RegistryError{
		{Message: "400 No required SSL certificate was sent"},
	}}
	notRegistry := &transfer.StatusError{StatusCode: 404, URL: "x/v2/"}
	damaged := &damagedError{dir: "dir", from: "registry.example/m:v1"}
	corrupt := &transfer.BlobError{Op: "upload", Err: transfer.ErrDigestMismatch}
	const repair = "repair /x/config.json; " +
		"--username NAME with the password in TRANSFER_PASSWORD works meanwhile"
	unreadable := &credentials.Unreadable{Path: "/x/config.json", Err: io.EOF}
	expired := x509.CertificateInvalidError{Reason: x509.Expired}
	proxy := &net.OpError{Op: "proxyconnect", Err: errors.New("x")}
	space := &model.SpaceError{Dir: "dir", Need: 105e6, Free: -1, Err: full}
	for want, err := range map[string]error{
		"log in with: transfer login registry.example": registry.ErrUnauthorized,
		repair: unreadable,
		"the certificate of registry.example is signed by an authority": x509.UnknownAuthorityError{},
		"the certificate of registry.example is for another name":       x509.HostnameError{},
		"registry.example wants a certificate of yours: name it":        nginx,
		"has expired":                                            expired,
		"ALL_PROXY cannot be reached":                            proxy,
		"check the name registry.example":                        missing,
		"nothing answers there":                                  syscall.ECONNREFUSED,
		"choose another address with --listen":                   syscall.EADDRINUSE,
		"free some space and run the same command again":         full,
		"105 MB are still to be fetched to dir; free some space": space,
		tags: &transfer.StatusError{StatusCode: 404, URL: "x/manifests/v1"},
		"registry.example does not answer as a registry does":              notRegistry,
		"repair it from where it came: transfer verify model --from REF":   corrupt,
		"repair it with: transfer verify dir --from registry.example/m:v1": damaged,
	} {
		a := &app{source: "model"}
		a.asking(r)
		assert.Contains(t, adviser{a}.hint(fmt.Errorf("wrapped: %w", err)), want)
	}
	a := new(app)
	assert.Empty(t, adviser{a}.hint(errors.New("anything else")))
	assert.Contains(t, adviser{a}.hint(corrupt), "a file was changed or removed while it was pushed")
}

func TestTheHintSaysHowMuchSpaceIsMissing(t *testing.T) {
	hint := adviser{new(app)}.hint(&model.SpaceError{Dir: "d", Need: 11e11, Free: 1e9, Err: syscall.ENOSPC})
	const want = "1.1 TB are missing: 1.1 TB are still to be fetched to d and 1.0 GB are free; " +
		"free some space"
	assert.True(t, strings.HasPrefix(hint, want), hint)
}

func TestARefusalSaysWhoIsRefused(t *testing.T) {
	a := new(app)
	a.host, a.repository.Repository = "registry.example", "me/model"
	denied := &transfer.StatusError{StatusCode: 403}
	assert.Equal(t, "registry.example does not let everybody do that; log in with: "+
		"transfer login registry.example", adviser{a}.hint(denied))
	a.who.set("registry.example", "me")
	assert.Equal(t, "registry.example does not let me do that in me/model; log in as somebody who may: "+
		"transfer login registry.example", adviser{a}.hint(denied))
	hint := adviser{a}.hint(registry.ErrUnauthorized)
	assert.Contains(t, hint, "registry.example refuses me; check the name")
	a.username = "you"
	hint = adviser{a}.hint(registry.ErrUnauthorized)
	assert.Contains(t, hint, "password of --username you")
}

// A copy asks two registries, and each as somebody else.
func TestTheHintNamesWhoAsksThatRegistry(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, ".docker"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".docker", "config.json"),
		[]byte(`{"auths":{"target.example":{"username":"me","password":"hunter2"}}}`), 0o600))
	a := &app{getenv: env(map[string]string{"HOME": home})}
	for _, name := range []string{"target.example/me/model", "source.example/you/model"} {
		r, err := ref.Parse(name)
		require.NoError(t, err)
		_, err = a.credentials(t.Context(), r)
		require.NoError(t, err)
	}
	denied := &transfer.StatusError{StatusCode: 403}
	a.host = "target.example"
	assert.Contains(t, adviser{a}.hint(denied), "target.example does not let me do that")
	a.host = "source.example"
	assert.Contains(t, adviser{a}.hint(denied), "source.example does not let everybody do that")
}

func TestAPersonIsNotToldOfTokens(t *testing.T) {
	for _, status := range []int{401, 403} {
		var stderr bytes.Buffer
		a := &app{stderr: &stderr}
		a.host = "registry.example"
		err := &transfer.StatusError{Method: "GET", URL: "https://x/v2/", StatusCode: status}
		assert.Equal(t, exitFailed, a.explain(t.Context(), fmt.Errorf("wrapped: %w", err)))
		assert.NotContains(t, stderr.String(), "token")
		assert.Contains(t, stderr.String(), "transfer login registry.example")
	}
}

func TestAPersonIsToldOfFlagsAndNotOfOptions(t *testing.T) {
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer busy.Close()
	made, name := tree(t, map[string]string{"a": "b"}), busy.URL+"/me/model"
	for _, args := range [][]string{{"tags", name}, {"push", made, name}} {
		r := runWith(t, args...)
		require.Equal(t, exitFailed, r.code, "%v", args)
		assert.Contains(t, r.stderr, "hint: run the same command again in 1h0m0s", "%v", args)
		assert.Contains(t, r.stderr, "--retry-timeout", "%v", args)
		assert.NotContains(t, r.stderr, "RetryTimeout", "%v", args)
	}
}

// advised is an error whose advice is for programs.
type advised struct{ error }

func (e advised) Error() string  { return e.error.Error() + " (turn the other knob)" }
func (e advised) Advice() string { return "turn the other knob" }
func (e advised) Unwrap() error  { return e.error }

func TestAHintTakesThePlaceOfTheAdviceToPrograms(t *testing.T) {
	told := func(err error) string {
		var stderr bytes.Buffer
		a := &app{stderr: &stderr}
		assert.Equal(t, exitFailed, a.explain(t.Context(), fmt.Errorf("wrapped: %w; and more", advised{err})))
		return stderr.String()
	}
	const refused = "transfer: wrapped: connection refused; and more\n" +
		"hint: nothing answers there; check the port, and that the registry runs\n"
	assert.Equal(t, refused, told(syscall.ECONNREFUSED))
	assert.Equal(t, "transfer: wrapped: odd (turn the other knob); and more\n", told(errors.New("odd")))
}

// Whoever logs in to the registry is refused by its store all the same.
func TestNobodyIsSentToLogInByTheStoreBehindARegistry(t *testing.T) {
	made, s := tree(t, map[string]string{"a": "b"}), startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	defer store.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, store.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	r := runWith(t, "pull", front.URL+"/me/model", t.TempDir())
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "403 Forbidden (not the registry but where it has sent us)")
	assert.NotContains(t, r.stderr, "log in")
}

// Whoever leads to another port of its host is at fault, and not the person's scheme or port.
func TestNobodyIsSentToAnotherSchemeByAProxyAtFault(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	front := httptest.NewServer(http.RedirectHandler(closed.URL, http.StatusTemporaryRedirect))
	defer front.Close()
	r := runWith(t, "inspect", front.URL+"/me/model")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "nobody listens there (the registry led there; check Host and X-Forwarded-")
	assert.NotContains(t, r.stderr, "hint:")

	r = runWith(t, "inspect", "https://"+strings.TrimPrefix(startedServer(t).url, "http://")+"/me/model")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "hint: ")
	assert.NotContains(t, r.stderr, "base URL")
}

func TestHintsFollowTheFailure(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secureHost := strings.TrimPrefix(secure.URL, "https://")
	for name, test := range map[string]struct{ ref, want string }{
		"an unknown authority": {secure.URL + "/me/model", "--ca-file FILE"},
		"https to http":        {"https://" + plain.Listener.Addr().String() + "/m", " speaks http; use"},
		"http to https":        {"http://" + secureHost + "/me/model", " speaks https; use https://"},
		"nobody there":         {"http://127.0.0.1:1/me/model", "nothing answers there"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, "pull", "--retry-timeout", "1ms", test.ref, t.TempDir())
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "hint: ")
			assert.Contains(t, r.stderr, test.want)
		})
	}
	r := runWith(t, "tags", "--plain-http", secureHost+"/me/model")
	assert.Contains(t, r.stderr, " speaks https; leave out --plain-http")
}
