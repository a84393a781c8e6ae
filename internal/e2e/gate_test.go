package e2e

import (
	"net/http"
	"sync"
)

// gate is a middleware in which a test can hold up the downloads of blobs.
type gate struct {
	next http.Handler

	mu   sync.Mutex // guards the fields that follow
	pass int        // downloads that go through unhindered
	wait func()     // what the others wait for; nil means that the gate is open
}

func newGate(next http.Handler) *gate { return &gate{next: next} }

// hold lets pass downloads through and has all that follow call wait before the
// registry sees them. Only the first calls it, the others wait for the first.
func (g *gate) hold(pass int, wait func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass, g.wait = pass, sync.OnceFunc(wait)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && kindOf(r.URL.Path) == kindBlob {
		g.enter()
	}
	g.next.ServeHTTP(w, r)
}

func (g *gate) enter() {
	g.mu.Lock()
	g.pass--
	wait := g.wait
	open := wait == nil || g.pass >= 0
	g.mu.Unlock()
	if !open {
		wait()
	}
}
