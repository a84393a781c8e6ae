package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEventsAreOneALine(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	for _, args := range [][]string{
		{"push", made, ref}, {"pull", ref, t.TempDir()}, {"inspect", ref}, {"pull", ref + "x", t.TempDir()},
	} {
		r := runWith(t, append(args, "--json")...)
		lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		for _, line := range lines {
			var event map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &event), line)
			assert.NotEmpty(t, event["event"])
		}
		if r.code != exitOK {
			assert.Contains(t, lines[len(lines)-1], `"event":"error"`)
		}
	}
}

func TestRetriesAreTold(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	failed := false
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !failed {
			failed = true
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	r := must(t, "pull", front.URL+"/me/model", t.TempDir())
	assert.Contains(t, r.stderr, "trying again in ")
	assert.Contains(t, r.stderr, "503")
}
