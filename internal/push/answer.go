package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// answer is what a server has answered, whatever its status. Its body was read and closed.
type answer struct {
	*exchange.Response
	failure exchange.Failure // where failed
	failed  bool             // the status is no success, and no redirect
}

// read reads an answer to its end.
func (p *Pusher) read(resp *exchange.Response) answer {
	a := answer{Response: resp, failed: exchange.Failed(resp.StatusCode)}
	if a.failed {
		a.failure = p.Exchange.Failure(resp)
		_ = resp.Body.Close()
	} else {
		resp.Discard()
	}
	return a
}

// ask makes a request without a body. The error is one of having no answer.
func (p *Pusher) ask(ctx context.Context, r exchange.Request) (answer, error) {
	r.MaySlow = true
	resp, err := p.Exchange.Do(ctx, r)
	if err != nil {
		return answer{}, err
	}
	return p.read(resp), nil
}

// refused tells whether a server does not do what it was asked, though it lets us in and works: then there
// may be another way.
func (a answer) refused() bool {
	return a.failed && !a.failure.Temporary() && a.StatusCode != http.StatusUnauthorized
}

// temporary tells whether the same request may succeed later.
func (a answer) temporary() bool { return a.failed && a.failure.Temporary() }

// is tells whether the answer has one of the statuses.
func (a answer) is(statuses ...int) bool {
	return slices.Contains(statuses, a.StatusCode)
}

// location is where an answer says that a session goes on. The Ollama registry has a header of its own for
// that, for when Location leads elsewhere.
func (a answer) location() string {
	return cmp.Or(a.Header.Get("Docker-Upload-Location"), a.Header.Get("Location"))
}

// begins tells whether an answer is that of a session that was begun. Simple registries say 200 for 202.
func (a answer) begins() bool {
	begun := a.is(http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	return begun && a.location() != "" && !a.webPage()
}

// digest is that of what the server says it has, empty where it does not say.
func (a answer) digest() digest.Digest {
	dg := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if dg.Validate() != nil {
		return ""
	}
	return dg
}

// webPage tells whether the answer is a page for people.
func (a answer) webPage() bool { return wire.LooksLikeWebPage(a.Header) }

// err is the error of an answer that is a failure.
func (p *Pusher) err(a answer) error { return p.Exchange.Err(a.failure) }

// unexpected is the error of an answer that is a success, but not the one that the request asks for. It is
// not worth another attempt.
func (a answer) unexpected(want string) error {
	var came strings.Builder
	fmt.Fprintf(&came, "%s %s: %d", a.Request.Method, wire.Redact(a.Target.URL), a.StatusCode)
	if kind := a.Header.Get("Content-Type"); kind != "" {
		fmt.Fprintf(&came, " with %.60q", kind)
	}
	fmt.Fprintf(&came, " instead of %s", want)
	if a.webPage() {
		return retry.Permanent(fmt.Errorf("%w: %s; %w", sentinel.ErrProtocol, came.String(), errWebPage))
	}
	return retry.Permanent(fmt.Errorf("%w: %s", sentinel.ErrProtocol, came.String()))
}

// errWebPage is what a web page in the place of an answer means. The registry knows nothing of it, and may go
// on once a person has signed in.
var errWebPage = errors.New("a web page is no registry's answer: is there a captive portal, " +
	"a sign-on proxy, or the front page of another host at the base URL?")

// mismatch is the error of an answer that says another digest was stored, or nil.
func (a answer) mismatch(dg digest.Digest) error {
	got := a.digest()
	if got == "" || got.Algorithm() != dg.Algorithm() || got == dg {
		return nil
	}
	return retry.Permanent(fmt.Errorf("%w: the registry has stored %s instead of %s",
		sentinel.ErrDigestMismatch, got, dg))
}

// whole tells whether all of the request's body has left.
func (a answer) whole() bool { return a.Sent || a.Request.ContentLength == 0 }

// outOfStep tells whether a registry has more, or less, of a session than its URL says. It may still be
// writing what it got of a request that was cut.
func (a answer) outOfStep() bool { return a.is(http.StatusRequestedRangeNotSatisfiable) }

// sessionLost tells whether a registry no longer knows a session, or not as it was left.
func (a answer) sessionLost() bool {
	return a.is(http.StatusNotFound) || a.outOfStep() ||
		a.failure.Has("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")
}

// expired tells whether a URL that was signed for a short time is refused: that of an object store, but not
// of a session that is elsewhere, whose URL is all that there is of it.
func (a answer) expired(session wire.Target) bool {
	if !a.Target.Left {
		return false
	}
	told := a.failure.Has("ExpiredToken", "RequestExpired", "AccessDenied")
	return a.is(http.StatusBadRequest) && told || a.is(http.StatusForbidden) && (told || !session.Left)
}

// otherDigest tells whether the registry has found another digest than we have. The bytes may have changed on
// their way or, in a session that an earlier call began, be those of another file.
func (a answer) otherDigest(foreign bool) bool {
	return a.is(http.StatusBadRequest) && (foreign || a.failure.Has("DIGEST_INVALID"))
}

// namesBlob tells whether a failure says what of the blob or the session it is about: that is no matter of
// how bodies are sent.
func namesBlob(f exchange.Failure) bool {
	return f.Has("DIGEST_INVALID", "NAME_INVALID", "NAME_UNKNOWN", "DENIED", "BLOB_UPLOAD_UNKNOWN",
		"BLOB_UPLOAD_INVALID")
}
