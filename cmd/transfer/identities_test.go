package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/model/ref"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// homeWith returns the variables of a home with this Docker configuration.
func homeWith(t *testing.T, config string) func(string) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".docker"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(config), 0o600))
	return env(map[string]string{"HOME": home, passwordVariable: "hunter2"})
}

func TestA4WhatIsPublicNeedsNoLogInThatCanBeRead(t *testing.T) {
	s := startedServer(t)
	must(t, "push", tree(t, someFiles), s.url+"/me/model")
	for name, test := range map[string]struct{ config, says string }{
		"no such helper": {
			`{"credsStore":"desktop.exe"}`, "install docker-credential-desktop.exe, or take it out of",
		},
		"half a file": {`{"auths":`, "repair "},
	} {
		t.Run(name, func(t *testing.T) {
			vars := homeWith(t, test.config)
			r := runIn(t.Context(), vars, "pull", guardedPublic(t, s)+"/me/model", t.TempDir())
			require.Equal(t, exitOK, r.code, r.stderr)
			assert.Equal(t, 1, strings.Count(r.stderr, "warning:"), r.stderr)
			assert.Contains(t, r.stderr, "going on without a log-in")
			assert.Contains(t, r.stderr, test.says)
			r = runIn(t.Context(), vars, "pull", "-q", guard(t, s)+"/me/model", t.TempDir())
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "hint: the log-in that is kept could not be read; "+test.says)
		})
	}
}

// guardedPublic puts a token server before a server, which lets everybody read.
func guardedPublic(t *testing.T, s *server) string {
	t.Helper()
	var front *httptest.Server
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"token":"anonymous"}`))
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+front.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			s.http.Handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// A log-in tells its password too.
func TestH12ALogInIsWarnedOfHTTPBeforeItSendsThePassword(t *testing.T) {
	var stderr lockedBuffer
	a := &app{
		stdin: strings.NewReader("pw\n"), stdout: &stderr, stderr: &stderr,
		getenv: env(map[string]string{"HOME": t.TempDir()}),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a.run(ctx, []string{"login", "--username", "me", "--password-stdin", "http://registry.invalid"})
	assert.Contains(t, stderr.String(), "the log-in to registry.invalid is sent unencrypted")
}

// An advice that cannot work is worse than none: another log-in would go to the same store.
func TestA4ALogInThatCannotBeKeptSaysWhatHelps(t *testing.T) {
	url := guard(t, startedServer(t))
	r := runIn(t.Context(), homeWith(t, `{"credsStore":"desktop.exe"}`), "login", "--username", "me", url)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "docker-credential-desktop.exe")
	assert.Contains(t, r.stderr, "hint: install docker-credential-desktop.exe, or take it out of ")
}

func TestH12ALogInOverHTTPIsSaid(t *testing.T) {
	const kept = `{"auths":{
		"https://registry.example/v1/":{"auth":"bWU6cHc="},
		"127.0.0.1:5000":{"auth":"bWU6cHc="}}}`
	for text, want := range map[string]bool{
		"http://registry.example/me/model": true, "https://registry.example/me/model": false,
		"http://127.0.0.1:5000/me/model": false, "http://other.example/me/model": false,
	} {
		for _, username := range []string{"", "me"} {
			var stderr lockedBuffer
			a := &app{stdout: &stderr, stderr: &stderr, getenv: homeWith(t, kept)}
			a.username = username
			r, err := ref.Parse(text)
			require.NoError(t, err)
			for range 2 {
				_, err = a.credentials(t.Context(), r)
				require.NoError(t, err)
			}
			want := want || username != "" && strings.HasPrefix(text, "http://other")
			assert.Equal(t, want, strings.Contains(stderr.String(), "is sent unencrypted"), text)
			if want {
				assert.Equal(t, 1, strings.Count(stderr.String(), "warning:"), "said once")
			}
		}
	}
}

func TestH12ProgramsThatKeepLogInsDoNotGetThePassword(t *testing.T) {
	bin, seen := t.TempDir(), filepath.Join(t.TempDir(), "seen")
	script := "#!/bin/sh\nenv > " + seen + "\necho 'credentials not found in native keychain'\nexit 1\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "docker-credential-spy"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv(passwordVariable, "hunter2")
	vars := homeWith(t, `{"credsStore":"spy"}`)
	runIn(t.Context(), vars, "tags", guard(t, startedServer(t))+"/me/model")
	data, err := os.ReadFile(seen)
	require.NoError(t, err)
	assert.Contains(t, string(data), "PATH=")
	assert.NotContains(t, string(data), "hunter2")
}
