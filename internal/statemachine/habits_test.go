package statemachine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// habits are those of servers that exist, beside what registrytest.Options have. The zero value has none.
type habits struct {
	Head     string        // "bare": 200 without a header; "lies": that of each blob, there or not
	Body     string        // which request of an upload is refused for its body; see refused
	Lost     string        // where sessions are lost: "chunk" after some bytes, "commit" at the end
	Losses   int           // how many sessions are
	TokenFor time.Duration // how long a token is good; 0: for ever
	Node     string        // the fault of one of three nodes that serve blobs; "": all are well
}

var (
	heads     = rapid.SampledFrom([]string{"", "", "bare", "lies"})
	bodies    = rapid.SampledFrom([]string{"", "", "PUT 400", "PUT 405", "PATCH 416", "all 416"})
	losses    = rapid.SampledFrom([]string{"", "", "chunk", "commit"})
	tokenLife = rapid.SampledFrom([]time.Duration{0, 0, 0, 5 * time.Second, 20 * time.Second})
	nodes     = rapid.SampledFrom([]string{"", "", "", "416", "asked(bytes=0-9)", "hangup", "502"})
)

// drawHabits draws those of the registry. One that refuses bodies has no other wishes about them, or there
// would be no way to upload.
func drawHabits(t *rapid.T, s *scenario) {
	s.Habits = habits{
		Head: heads.Draw(t, "head"), Body: bodies.Draw(t, "body"), Lost: losses.Draw(t, "lost"),
		Losses:   rapid.IntRange(1, 2).Draw(t, "losses"),
		TokenFor: tokenLife.Draw(t, "token for"), Node: nodes.Draw(t, "node"),
	}
	if s.Habits.Body != "" {
		s.Ollama, s.Options.SingleShot, s.Options.MinChunk, s.Options.MaxBody = "", false, 0, 0
	}
	s.Options.CheckManifest = s.Options.CheckManifest || s.Habits.Head == "lies"
}

// behaviour answers in place of the registry where it has habits.
type behaviour struct {
	habits
	reg *registrytest.Registry

	mu   sync.Mutex // guards the fields that follow
	left int        // how many sessions may still be lost
	lost map[string]bool
}

// adopt gives the habits to the registry.
func (h habits) adopt(reg *registrytest.Registry) {
	b := &behaviour{habits: h, reg: reg, left: h.Losses, lost: map[string]bool{}}
	reg.Configure(func(o *registrytest.Options) { o.Before = b.answer })
}

func (b *behaviour) answer(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/"):
		return b.head(w, r)
	case strings.Contains(r.URL.Path, "/blobs/uploads/"):
		return b.loses(w, r) || b.refused(w, r)
	}
	return false
}

// head answers that a blob is there, with nothing else.
func (b *behaviour) head(w http.ResponseWriter, r *http.Request) bool {
	repo, dg, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	there := b.reg.Has(repo, digest.Digest(dg))
	if b.Head == "" || b.Head == "bare" && !there {
		return false
	}
	_ = http.NewResponseController(w).Flush()
	return true
}

// largestBody is what a registry takes that answers 416 to more, as that of GitHub does.
const largestBody = 4 * mebibyte

// refused answers a request that the registry takes no body of, or not one so large.
func (b *behaviour) refused(w http.ResponseWriter, r *http.Request) bool {
	method, status, _ := strings.Cut(b.Body, " ")
	switch {
	case status == "" || r.ContentLength == 0 || method != "all" && method != r.Method:
		return false
	case status != "416":
		code, _ := strconv.Atoi(status)
		w.WriteHeader(code)
	case r.ContentLength > largestBody:
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		_, _ = io.WriteString(w, "request body is too large")
	default:
		return false
	}
	return true
}

// loses answers that there is no such session, when all of the body has come.
func (b *behaviour) loses(w http.ResponseWriter, r *http.Request) bool {
	at := r.Method == http.MethodPatch && b.Lost == "chunk" && r.URL.Query().Get("_state") != "0" ||
		r.Method == http.MethodPut && b.Lost == "commit"
	b.mu.Lock()
	if at && b.left > 0 {
		b.left--
		b.lost[r.URL.Path] = true
	}
	gone := b.lost[r.URL.Path]
	b.mu.Unlock()
	if gone {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNotFound)
	}
	return gone
}

// behind returns a server of blobs of which one of three nodes has a fault. Whoever asks again comes to
// another.
func (h habits) behind(good http.Handler, bad *registrytest.CDN) http.Handler {
	if h.Node == "" {
		return good
	}
	bad.Fault("", "", "**"+h.Node)
	var turn atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && !strings.Contains(r.URL.Path, "/uploads/") && turn.Add(1)%3 == 0 {
			bad.ServeHTTP(w, r)
			return
		}
		good.ServeHTTP(w, r)
	})
}

// errAway is what GetToken returns while the token server is away.
var errAway = awayError{errors.New("the token server is away")}

type awayError struct{ error }

func (awayError) Temporary() bool { return true }

// tokens are those of a registry.
type tokens struct {
	habits
	secret string
	begun  time.Time
	away   atomic.Bool // the server of tokens is
}

// adopt has the registry want the tokens.
func (k *tokens) adopt(reg *registrytest.Registry) {
	reg.Configure(func(o *registrytest.Options) {
		o.Token = ""
		o.CheckToken = func(r *http.Request) bool {
			return r.Header.Get("Authorization") == "Bearer "+k.now()
		}
	})
}

// now returns the token that is good now.
func (k *tokens) now() string {
	if k.TokenFor == 0 {
		return k.secret
	}
	return fmt.Sprint(k.secret, "-", time.Since(k.begun)/k.TokenFor)
}

func (k *tokens) get(context.Context, transfer.AuthChallenge) (string, error) {
	if k.away.Load() {
		return "", errAway
	}
	return k.now(), nil
}
