package exchange

import (
	"context"

	"github.com/modeltransfer/transfer/internal/wire"
)

// trial is the first request with a user name and a password (RFC 7617) of which it is not known whether they
// are right. Those that come meanwhile wait for its answer: Docker Hub locks an account after a few wrong
// passwords (hub-feedback#642), and many requests at once would be as many.
type trial struct {
	key  acceptance
	done chan struct{}
	err  error // set before done is closed: that of all who would send the same
}

// token returns the newest token for the request, once no other request is trying that one out.
func (f *flight) token(ctx context.Context) (string, error) {
	for {
		other := f.x.Tokens.try(f)
		if other == nil {
			return f.tokens.token, nil
		}
		f.watch.Pause()
		select {
		case <-other.done:
		case <-ctx.Done():
		}
		f.watch.Resume()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if other.err != nil {
			return "", other.err
		}
	}
}

// try gives a request the newest token, or returns the trial of that token by another request.
func (t *Tokens) try(f *flight) *trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := &f.tokens
	u.token = t.newestFor(u)
	if !wire.IsBasic(u.token) {
		return nil
	}
	key := acceptance{u.token, writes(f.req.Method)}
	_, good := t.accepted[key]
	_, wrote := t.accepted[acceptance{u.token, true}]
	if good || wrote {
		return nil
	}
	other := t.trials[key]
	if other == nil && len(t.trials) < maxChallenges {
		mine := &trial{key: key, done: make(chan struct{})}
		t.trials[key] = mine
		f.trial.Store(mine)
	}
	return other
}

// redirected notes that whoever is redirected was let in, where that was not known of the password.
func (f *flight) redirected() {
	if f.trial.Load() != nil {
		f.x.Tokens.accept(f)
		f.x.Tokens.judged(f, nil)
	}
}

// judged ends the trial that a request is, if it is one. An error is that of all who would send the same
// password; without one they try it in their turn, unless it has let the request in.
func (t *Tokens) judged(f *flight, err error) {
	mine := f.trial.Swap(nil)
	if mine == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.err = err; err == nil {
		delete(t.trials, mine.key)
	}
	close(mine.done)
}
