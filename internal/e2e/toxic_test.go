package e2e

import (
	"cmp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer"
)

// The tests of this file put toxiproxy between the library and the reference registry.

// retryTimeout ends a test soon whose transfer does not get anywhere.
const retryTimeout = 30 * time.Second

// route is a transfer over a link, in one direction.
type route struct {
	*link
	stream string // the direction of the bodies, as toxiproxy calls it
	dam    *dam   // in front of the registry, open
	s      *server
	src    string // has the blobs

	stall       time.Duration // StallTimeout
	concurrency int           // Concurrency, of bodies too
}

// bothWays runs a test as a download and as an upload.
func bothWays(t *testing.T, test func(t *testing.T, r *route)) {
	for name, stream := range map[string]string{"download": downstream, "upload": upstream} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting
			d := newDam(newDistribution(t).handler(t))
			s := serve(t, d, false)
			test(t, &route{link: newLink(t, s), stream: stream, dam: d, s: s, src: t.TempDir()})
		})
	}
}

// suffer adds a toxic in the direction of the bodies, under the name of its kind.
func (r *route) suffer(t *testing.T, kind string, toxicity float32, attributes map[string]int64) {
	t.Helper()
	r.add(t, toxic{Name: kind, Type: kind, Stream: r.stream, Toxicity: toxicity, Attributes: attributes})
}

// inTheMiddle has call made when n bytes were sent and before all that follow them.
func (r *route) inTheMiddle(t *testing.T, n int64, call func()) {
	if r.stream == upstream {
		r.before(n, call)
		return
	}
	r.dam.close(t, n, func() {
		call()
		r.dam.open()
	})
}

// run moves the blobs over the link and checks that the other side has them, byte for byte. A
// download has them pushed first, past the link. begin is called when all is ready.
func (r *route) run(t *testing.T, blobs []transfer.Blob, begin func()) {
	t.Helper()
	if r.stream == upstream {
		begin()
		opts := upload(r.s, r.src, blobs)
		opts.BaseURL, opts.Client, opts.Logger = r.url, r.client, r.failures.logger()
		opts.StallTimeout, opts.Concurrency, opts.BodyConcurrency = r.stall, r.concurrency, r.concurrency
		opts.RetryTimeout = retryTimeout
		push(t, opts)
		peer := newPeer(t, r.s, repository)
		for _, b := range blobs {
			peer.requireBlob(t, r.src, b)
		}
		return
	}
	push(t, upload(r.s, r.src, blobs))
	r.s.forget()
	begin()
	dst := t.TempDir()
	opts := download(r.s, dst, blobs)
	opts.BaseURL, opts.Client, opts.Logger = r.url, r.client, r.failures.logger()
	opts.StallTimeout, opts.Concurrency, opts.BodyConcurrency = r.stall, r.concurrency, r.concurrency
	opts.RetryTimeout = retryTimeout
	pull(t, opts)
	requireSame(t, r.src, dst, blobs)
}

// assertOnce fails when more came through than the blobs and what the failures destroyed. Of a
// download that is what the library read, of an upload what the registry read. What the kernels
// had in their buffers when a connection ended is not in it: that differs from one to another.
func (r *route) assertOnce(t *testing.T, blobs []transfer.Blob) {
	t.Helper()
	const (
		headers = kib       // of an answer
		buffer  = 128 * kib // what is read at once, and may come in vain where a connection is given up
	)
	total, failed := sumOf(blobs), int64(len(r.failures.matching(nil)))
	requests := int64(len(r.s.seen(byLibrary)))
	came, allowed := sumReceived(r.s.seen(byLibrary)), total+failed*buffer
	if r.stream == downstream {
		came, allowed = r.read.Load(), total+requests*headers+(failed+r.dials.Load())*buffer
	}
	t.Logf("%d bytes came for %d, %d failures, %d connections, %d requests",
		came, total, failed, r.dials.Load(), requests)
	assert.GreaterOrEqual(t, came, total)
	assert.LessOrEqual(t, came, allowed)
	pieces := total/mib + 1 // of an upload
	if r.stream == downstream {
		pieces = total / (128 * kib) // an idle worker takes no less from another
	}
	most := 4*(int64(len(blobs))+failed) + pieces
	assert.LessOrEqual(t, requests, most, "requests for each failure are bounded")
}

func TestN8LatencyIsNoStall(t *testing.T) {
	bothWays(t, func(t *testing.T, r *route) {
		blobs := addBlobs(t, r.src, 1, 10, 70_000, 70_001, mib, 9*mib)
		r.run(t, blobs, func() {
			for _, stream := range []string{upstream, downstream} {
				r.add(t, toxic{Name: stream, Type: "latency", Stream: stream, Toxicity: 1,
					Attributes: map[string]int64{"latency": 60, "jitter": 50}})
			}
		})
		assert.Empty(t, r.failures.matching(nil))
		r.assertOnce(t, blobs)
		seen := r.s.seen(byLibrary)
		if r.stream == upstream {
			assert.LessOrEqual(t, len(seen), 3*len(blobs), "nothing is asked twice")
			return
		}
		// How many pieces idle workers take depends on the link; each begins where no other does.
		asked := map[string]int{}
		for _, e := range seen {
			first, _, _ := strings.Cut(e.byteRange, "-")
			asked[e.path+" "+cmp.Or(first, "bytes=0")]++
		}
		assert.Len(t, asked, len(seen), "nothing is asked twice")
	})
}

func TestN9NarrowLinkIsNoStall(t *testing.T) {
	const size, rate = 8 * mib, 2000 // bytes, and bytes in a millisecond for each connection
	bothWays(t, func(t *testing.T, r *route) {
		r.stall, r.concurrency = 3*time.Second, 4 // nobody is idle, to take over from another
		blobs := addBlobs(t, r.src, 1, size, size, size, size)
		var begin time.Time
		r.run(t, blobs, func() {
			begin = time.Now()
			r.suffer(t, "bandwidth", 1, map[string]int64{"rate": rate})
		})
		assert.Greater(t, time.Since(begin), r.stall, "or the link was not narrow")
		assert.Empty(t, r.failures.matching(nil))
		r.assertOnce(t, blobs)
	})
}

func TestN2TinyPortionsAreNoEnd(t *testing.T) {
	bothWays(t, func(t *testing.T, r *route) {
		blobs := addBlobs(t, r.src, 1, 10, 70_000, mib, 33*mib) // whole, and in pieces
		r.run(t, blobs, func() {
			r.suffer(t, "slicer", 1, map[string]int64{"average_size": 1000, "size_variation": 900})
		})
		assert.Empty(t, r.failures.matching(transfer.ErrStalled))
		r.assertOnce(t, blobs)
	})
}

func TestN2ConnectionsThatEndEarly(t *testing.T) {
	const size, limit = 48 * mib, 5*mib + 123
	bothWays(t, func(t *testing.T, r *route) {
		blobs := addBlobs(t, r.src, 1, 10, 70_000, mib, size)
		r.run(t, blobs, func() {
			r.suffer(t, "limit_data", 1, map[string]int64{"bytes": limit})
		})
		assert.Greater(t, r.dials.Load(), int64(size/limit), "no connection carries more")
		r.assertOnce(t, blobs)
	})
}

func TestN1ResetsInTheMiddle(t *testing.T) {
	bothWays(t, func(t *testing.T, r *route) {
		const failures = 3
		blobs := addBlobs(t, r.src, 1, 48*mib)
		r.failures.then(failures, nil, func() { r.set(t, "reset_peer", 0) })
		r.run(t, blobs, func() {
			// A connection is reset and not closed when it has had the toxic from its beginning.
			r.suffer(t, "reset_peer", 0, map[string]int64{"timeout": 50})
			r.inTheMiddle(t, 20*mib, func() { r.set(t, "reset_peer", 1) })
		})
		assert.GreaterOrEqual(t, len(r.failures.matching(nil)), failures)
		assert.NotEmpty(t, r.failures.matching(syscall.ECONNRESET))
		r.assertOnce(t, blobs)
	})
}

func TestN7StallUntilTheLinkIsBack(t *testing.T) {
	bothWays(t, func(t *testing.T, r *route) {
		const failures = 2
		r.stall = time.Second
		blobs := addBlobs(t, r.src, 1, 40*mib)
		r.failures.then(failures, transfer.ErrStalled, func() { r.remove(t, "timeout") })
		r.run(t, blobs, func() {
			r.inTheMiddle(t, 20*mib, func() { r.suffer(t, "timeout", 1, map[string]int64{"timeout": 0}) })
		})
		assert.GreaterOrEqual(t, len(r.failures.matching(transfer.ErrStalled)), failures)
		r.assertOnce(t, blobs)
	})
}

func TestN1N2N8N9LargeBlobOverABadLink(t *testing.T) {
	const size, limit = 96 * mib, 9*mib + 123
	bothWays(t, func(t *testing.T, r *route) {
		blobs := addBlobs(t, r.src, 1, size)
		r.run(t, blobs, func() {
			r.suffer(t, "reset_peer", 0, nil) // so that connections that reach their limit are reset
			r.suffer(t, "limit_data", 1, map[string]int64{"bytes": limit})
			r.suffer(t, "bandwidth", 1, map[string]int64{"rate": 40_000})
			r.suffer(t, "slicer", 1, map[string]int64{"average_size": 2000, "size_variation": 1000})
			r.suffer(t, "latency", 1, map[string]int64{"latency": 10, "jitter": 10})
		})
		assert.Greater(t, r.dials.Load(), int64(size/limit), "no connection carries more")
		assert.Empty(t, r.failures.matching(transfer.ErrStalled))
		r.assertOnce(t, blobs)
	})
}
