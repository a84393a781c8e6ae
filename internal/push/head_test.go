package push_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// headIs answers each HEAD with 200, or with 404 until absent is false.
func (w *world) headIs(length string, dg digest.Digest, absent func() bool) {
	w.before(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead {
			return false
		}
		if absent() {
			rw.WriteHeader(http.StatusNotFound)
			return true
		}
		if dg != "" {
			rw.Header().Set("Docker-Content-Digest", dg.String())
		}
		if length != "" {
			rw.Header().Set("Content-Length", length)
		} else {
			_ = http.NewResponseController(rw).Flush()
		}
		rw.WriteHeader(http.StatusOK)
		return true
	})
}

func never() bool { return false }

// OCI asks for no header with a 200: a blob is there unless something speaks against it.
func TestU16AndU28WhatHeadSaysOfABlob(t *testing.T) {
	const size = 3 << 20
	right, wrong := "right", "wrong"
	type test struct {
		size           int
		length, digest string
		there          bool
	}
	cases := map[string]test{
		"U28 bare":                      {size: size, there: true},
		"U28 bare, of no bytes":         {there: true},
		"U28 of no bytes":               {length: "0", there: true},
		"U28 of no bytes, wrong digest": {length: "0", digest: wrong},
		"right length":                  {size: size, length: fmt.Sprint(size), there: true},
		"right length, right digest":    {size: size, length: fmt.Sprint(size), digest: right, there: true},
		"right length, wrong digest":    {size: size, length: fmt.Sprint(size), digest: wrong},
		"right digest":                  {size: size, digest: right, there: true},
		"wrong digest":                  {size: size, digest: wrong},
		"empty, right digest":           {size: size, length: "0", digest: right},
		"shorter, right digest":         {size: size, length: fmt.Sprint(size - 1), digest: right},
		"longer":                        {size: size, length: fmt.Sprint(size + 1)},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(c.size)
		says := map[string]digest.Digest{right: b.digest, wrong: digest.FromString("x")}[c.digest]
		w.headIs(c.length, says, never)
		require.NoError(t, w.push(b, ""))
		if c.there {
			assert.Equal(t, "HEAD", w.asked())
			return
		}
		w.requireStored(b)
	})
}

// Where it is not known what became of a blob, a HEAD without length and digest settles nothing.
func TestU28BareHeadSettlesNoDoubt(t *testing.T) {
	type test struct {
		size           int
		method, script string
		confirmed      bool
	}
	cases := map[string]test{
		"failed, with the POST": {1000, "POST", "503", true},
		"lost, with the POST":   {1000, "POST", "reset", true},
		"lost, of no bytes":     {0, "PUT", "reset", true},
		"failed, whole":         {3 << 20, "PUT", "503", true},
		"lost, in chunks":       {20 << 20, "PUT", "read+504", true},
		"201, never read":       {3 << 20, "PUT", "201", true},
		"no 201":                {3 << 20, "PUT", "read+200", false},
		"no 201, of no bytes":   {0, "PUT", "204", false},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{SingleShot: true})
		b := w.local(c.size)
		length := map[bool]string{true: "0"}[c.size == 0]
		w.headIs(length, "", func() bool { return w.reg.Count(c.method, "") == 0 })
		w.reg.Fault(c.method, "", c.script)
		err := w.push(b, "")
		if c.confirmed {
			require.NoError(t, err)
			w.requireStored(b)
			return
		}
		require.ErrorIs(t, err, sentinel.ErrProtocol)
	})
}

// A store that a registry redirects to may not answer HEAD, because its URLs are signed for GET.
func TestU22HeadIsRedirectedToAStoreThatRefusesIt(t *testing.T) {
	const distribution = "Docker-Distribution-Api-Version"
	type test struct {
		path   string
		header string
		status int
		there  bool
	}
	cases := map[string]test{
		"the URL names the blob":     {path: "/blobs/sha256/%s/data", status: 403, there: true},
		"405":                        {path: "/blobs/sha256/%s/data", status: 405, there: true},
		"the redirect is a registry": {path: "/x", header: distribution, status: 403, there: true},
		"a portal":                   {path: "/login", status: 403},
		"not there":                  {path: "/blobs/sha256/%s/data", status: 404},
		"there, of another length":   {path: "/blobs/sha256/%s/data", status: 200},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		store := w.serve("store.test", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "5")
			rw.WriteHeader(c.status)
		})
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead {
				return false
			}
			if c.header != "" {
				rw.Header().Set(c.header, "registry/2.0")
			}
			place := strings.ReplaceAll(c.path, "%s", b.digest.Encoded())
			http.Redirect(rw, r, store+place+"?sig=x", http.StatusTemporaryRedirect)
			return true
		})
		require.NoError(t, w.push(b, ""))
		if c.there {
			assert.Zero(t, w.reg.Count("POST", ""))
			assert.Equal(t, b.size(), w.moved.Load())
			return
		}
		w.requireStored(b)
	})
}
