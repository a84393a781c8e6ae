package transfer_test

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// N40: object stores refuse an expired signed URL with many statuses. The registry is asked again,
// for a URL that was remembered and for one that is refused at once, as by a cache that hands out old
// ones.
func TestN40RefusedSignedURL(t *testing.T) {
	for name, script := range map[string]string{
		"remembered, as S3 says it": "eof(300K)->s3(400 ExpiredToken)", "remembered": "eof(300K)->405",
		"on its first use": "400", "on its first use, as S3 says it": "s3(400 ExpiredToken)",
		"each time": "400->eof(300K)->410->eof(300K)->400",
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b := w.remote(mebibyte)
				cdn.Fault("GET", b.Digest, script)
				require.NoError(t, w.download(w.withToken(w.downloadOptions(b))))
				cdn.Wait()
				assert.Less(t, cdn.BytesSent(), b.Size+2000)
				assert.LessOrEqual(t, w.gets(b), 4)
			})
		})
	}
}

// N40: a URL that is refused whenever it is made anew ends the call soon.
func TestN40SignedURLRefusedForEver(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		cdn.Fault("GET", b.Digest, "**s3(400 ExpiredToken)")
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		w.requireStatus(err, b, http.StatusBadRequest)
		assert.NotContains(t, err.Error(), "token and what it may do",
			"the registry's token has nothing to do with it")
		assert.Equal(t, 2, cdn.Count("GET", b.Digest))
		assert.Less(t, took, time.Second)
	})
}

// firstElsewhere returns a redirect of the first request to one place and of all others to another.
func firstElsewhere(first, others string) func(*http.Request) string {
	var asked atomic.Int64
	return func(*http.Request) string {
		if asked.Add(1) == 1 {
			return first
		}
		return others
	}
}

// N41: one of several hosts of an object store is dead. Its URL is not remembered.
func TestN41DeadHostOfTheObjectStore(t *testing.T) {
	cases := named("eof(300K)->**503", "eof(300K)->**reset", "eof(300K)->**521", "eof(300K)->**hangup")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one := redirecting(t, mode, "one.test")
		two := w.reg.CDN()
		other := w.net.Serve("two.test", two, mode).URL
		b := w.remote(mebibyte)
		one.Fault("GET", b.Digest, script)
		first := w.net.Serve("again.test", one, mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.Redirect = firstElsewhere(first, other) })
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.LessOrEqual(t, one.Count("GET", b.Digest), 4,
			"net/http sends a request again where a used connection breaks")
		assert.Less(t, took, 3*time.Second)
		assert.Equal(t, 2, w.gets(b))
	})
}

// forgetful is a transport that cannot look up a host from one request on, for so many requests.
type forgetful struct {
	http.RoundTripper
	mu       sync.Mutex
	host     string
	from, to int // requests to the host
	count    int
}

func (f *forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() == f.host {
		f.mu.Lock()
		f.count++
		lost := f.count >= f.from && f.count < f.to
		f.mu.Unlock()
		if lost {
			unknown := &net.DNSError{Err: "no such host", Name: f.host, IsNotFound: true}
			return nil, &net.OpError{Op: "dial", Err: unknown}
		}
	}
	return f.RoundTripper.RoundTrip(r)
}

// N42: a host that has answered in this call exists, whatever DNS says.
func TestN42NoSuchHostThatHasAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		host     string
		from, to int
		fails    bool
	}{
		"the registry":         {"registry.test", 2, 4, false},
		"the object store":     {"cdn.test", 2, 5, false},
		"N32 never heard of":   {"registry.test", 1, 9, true},
		"N32 nor of the store": {"cdn.test", 1, 9, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w, cdn := redirecting(t, mode, "cdn.test")
				b, other := w.remote(mebibyte), w.remote(1000)
				cdn.Fault("GET", b.Digest, "eof(300K)")
				opts := w.withToken(w.downloadOptions(b, other))
				opts.Concurrency = 1
				client := *opts.Client
				client.Transport = &forgetful{RoundTripper: client.Transport, host: c.host, from: c.from, to: c.to}
				opts.Client = &client
				err := w.download(opts)
				if c.fails {
					var dns *net.DNSError
					require.ErrorAs(t, err, &dns)
					require.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
					return
				}
				require.NoError(t, err)
			})
		})
	}
}

// N44: a server that scans the blob before its first byte, anew for each request, gets longer each time.
func TestN44FirstByteAfterALongScan(t *testing.T) {
	for _, script := range []string{"**delay(55s)", "**late(55s)"} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, script)
				took, err := w.timed(w.downloadOptions(b))
				require.NoError(t, err)
				assert.Equal(t, 4, w.gets(b), "10 s, 20 s, 40 s, and then it comes")
				assert.Less(t, took, 3*time.Minute)
			})
		})
	}
}

// N44: once bytes have come, a stall is a stall again.
func TestN44StallAfterTheFirstByte(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "2*stallheaders->stall(300K)")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1 // another worker would take over what stalls
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InDelta(t, 10+20+10, took.Seconds(), 3)
	})
}

// N45: a wait that RetryTimeout does not allow is not begun.
func TestN45RetryAfterBeyondTheTimeout(t *testing.T) {
	for script, waits := range map[string]time.Duration{
		"**429(retry-after: 3600)": 0, "**503(retry-after: 31)": 0, "**503(retry-after: 20)": 20 * time.Second,
	} {
		t.Run(script, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remote(1000)
				w.reg.Fault("GET", b.Digest, script)
				opts := w.downloadOptions(b)
				opts.RetryTimeout = 30 * time.Second
				took, err := w.timed(opts)
				require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
				var status *transfer.StatusError
				require.ErrorAs(t, err, &status)
				assert.ErrorContains(t, err, "asks to be left alone for")
				assert.InDelta(t, waits.Seconds(), took.Seconds(), 1)
			})
		})
	}
}

// N46: a mirror's Retry-After holds back that mirror only.
func TestN46RetryAfterOfAMirror(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		var blobs []transfer.Blob
		for i := range 20 {
			b := w.remote(1000 + i)
			blobs = append(blobs, b)
			one.Put(repository, w.data(b))
			two.Put(repository, w.data(b))
		}
		one.Fault("GET", "", "429(retry-after: 60)")
		two.Fault("GET", "", "**slow(1K)")
		opts := options(blobs...)
		opts.Concurrency = 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Zero(t, w.reg.Count("GET", ""), "the second mirror has them all")
		assert.Less(t, took, 60*time.Second)
		assert.Equal(t, 1, one.Count("GET", ""))
	})
}

// N47: one node of many is stale. Ranges go on, and nothing is sent twice.
func TestN47OneWrongAnswerToARange(t *testing.T) {
	for name, script := range map[string]string{
		"416": "416", "two in a row": "2*416", "no Content-Range": "range()",
		"another range":  "range(bytes 0-9/34603008)",
		"the whole blob": "norange", "again and again": "416->ok->416->ok->416->ok->416->ok->416",
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b := w.remoteLarge()
				w.reg.Fault("GET", b.Digest, "ok->"+script)
				opts := w.downloadOptions(b)
				opts.Concurrency = 1
				require.NoError(t, w.download(opts))
				w.reg.Wait()
				assert.Less(t, w.reg.BytesSent(), b.Size+b.Size/4)
			})
		})
	}
}

// N47: the next request must not meet the same node.
func TestN47NewConnectionAfterAWrongAnswer(t *testing.T) {
	cases := named("416", "status(416, content-length: 0)", "range()", "norange")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->"+script)
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		assert.Equal(t, 2, w.dials())
	})
}

// N47: where it is the habit of a registry that has served ranges, the blob comes as a whole.
func TestN47RangesThatAreNoLongerServed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->**norange")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.LessOrEqual(t, w.reg.BytesSent(), 3*b.Size)
	})
}

// N47: nodes that disagree on the ETag answer If-Range with the whole blob. It is not sent any more,
// and ranges go on.
func TestN47NodesThatDisagreeOnTheETag(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->eof(1M)->norange->eof(1M)")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesSent(), b.Size+b.Size/4)
		conditional := 0
		for _, r := range w.reg.Requests() {
			if r.Header.Get("If-Range") != "" {
				conditional++
			}
		}
		assert.Equal(t, 1, conditional)
	})
}

// U15: a captive portal or a front page in the place of the registry.
func TestU15WebPageInsteadOfABlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "**page")
		took, err := w.timed(w.downloadOptions(b))
		require.ErrorIs(t, err, transfer.ErrProtocol)
		assert.ErrorContains(t, err, "web page")
		assert.Less(t, took, noBackoff)
		assert.Equal(t, 1, w.gets(b))
		w.requireNothing(b)
	})
}

// A mirror that lacks a blob is no reason to warn anybody.
func TestN46MirrorThatLacksABlobIsNoWarning(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, _, _, options := mirrored(t, mode)
		var book logBook
		opts := options(w.remote(1000), w.remote(2000))
		opts.Logger = book.logger()
		require.NoError(t, w.download(opts))
		assert.NotContains(t, book.String(), "level=WARN")
		assert.Equal(t, 4, strings.Count(book.String(), "mirror failed"))
	})
}

// N47: a registry that has served a range of another blob is asked once more, also for a blob that costs
// little as a whole.
func TestN47WrongAnswerToTheFirstRangeOfABlob(t *testing.T) {
	cases := named("416", "range()", "range(bytes 0-9/17825792)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		first, second := w.remote(20<<20), w.remote(17<<20)
		opts := w.downloadOptions(first, second)
		opts.Concurrency = 1
		w.reg.Fault("GET", first.Digest, "eof(10M)")
		w.reg.Fault("GET", second.Digest, "eof(10M)->"+script)
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesSent(), first.Size+second.Size+1<<20, "nothing is sent twice")
	})
}
