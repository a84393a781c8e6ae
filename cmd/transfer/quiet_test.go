package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A command that tries for five minutes in silence looks as if it hung.
func TestQuietSaysTheFirstRetryAndOneEachMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stderr lockedBuffer
		a := &app{stderr: &stderr, stdout: &stderr}
		a.quiet = true
		log := slog.New(newNoteHandler(a, new(notes)))
		log.Warn("something else", "error", errors.New("x"))
		assert.Empty(t, stderr.String())
		for range 21 {
			log.Warn("trying again", "error", errors.New("500"), "wait", 15*time.Second)
			time.Sleep(15 * time.Second)
		}
		assert.Equal(t, 6, strings.Count(stderr.String(), "trying again in 15.0 s: 500\n"), stderr.String())
	})
}

func TestAllProxyStandsForTheProxiesThatAreNotNamed(t *testing.T) {
	for name, test := range map[string]struct{ vars, want map[string]string }{
		"nothing": {nil, map[string]string{}},
		"both": {map[string]string{"ALL_PROXY": "socks5://p:1"},
			map[string]string{"HTTP_PROXY": "socks5://p:1", "HTTPS_PROXY": "socks5://p:1"}},
		"small letters": {map[string]string{"all_proxy": "socks5h://p:1", "https_proxy": "http://q"},
			map[string]string{"HTTP_PROXY": "socks5h://p:1"}},
		"an older spelling": {map[string]string{"ALL_PROXY": "socks://p:1", "HTTP_PROXY": "http://q"},
			map[string]string{"HTTPS_PROXY": "socks5://p:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := map[string]string{}
			proxyForAll(env(test.vars), func(name, value string) error {
				set[name] = value
				return nil
			})
			assert.Equal(t, test.want, set)
		})
	}
}

// A script that is quiet wants to know of its password too.
func TestQuietLetsWarningsPass(t *testing.T) {
	s := startedServer(t)
	must(t, "push", tree(t, someFiles), s.url+"/me/model")
	vars := homeWith(t, `{"credsStore":"desktop.exe"}`)
	r := runIn(t.Context(), vars, "pull", "-q", guardedPublic(t, s)+"/me/model", t.TempDir())
	assert.Equal(t, exitOK, r.code)
	assert.Equal(t, 1, strings.Count(r.stderr, "warning: "), r.stderr)
	assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
}
