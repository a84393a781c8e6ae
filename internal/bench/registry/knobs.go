// Package registry is a registry that costs as little as possible, keeps count of what
// is asked of it, and behaves as badly as it is told to.
package registry

import "time"

// Knobs is how the registry behaves. The zero value answers at once, at full speed,
// and has all blobs of its directory.
type Knobs struct {
	// Latency is how late every response of the registry is.
	Latency time.Duration

	// Redirect sends every GET of a blob to the CDN, whose responses are CDNLatency late.
	Redirect   bool
	CDNLatency time.Duration

	// ConnRate is the most bytes per second of each connection, TotalRate of all
	// together. Zero is no limit.
	ConnRate, TotalRate int64

	// Of every SlowEvery connections, the third has SlowRate bytes per second. Zero is none.
	SlowEvery int
	SlowRate  int64

	// With more than CollapseAbove bodies under way, TotalRate falls with the square of
	// the excess. Zero is never.
	CollapseAbove int

	// Empty hides the blobs of the directory, for uploads.
	Empty bool

	// HashUploads checks the digest of what is sent; otherwise it is dropped unseen.
	HashUploads bool

	// SinglePost takes a blob with the POST that begins its upload; otherwise that is
	// read and dropped, as the reference registry does.
	SinglePost bool
}

// slowPhase is which of every SlowEvery connections is slow: an early one, so that
// a client of few connections meets it too.
const slowPhase = 2

// rateOf is the speed of a connection, by its number; 0 is no limit.
func (k Knobs) rateOf(conn int64) int64 {
	if k.SlowEvery > 0 && conn%int64(k.SlowEvery) == slowPhase%int64(k.SlowEvery) {
		return k.SlowRate
	}
	return k.ConnRate
}

// totalRate is the speed of all connections together with so many bodies under way.
func (k Knobs) totalRate(bodies int64) int64 {
	if k.CollapseAbove == 0 || bodies <= int64(k.CollapseAbove) {
		return k.TotalRate
	}
	share := float64(k.CollapseAbove) / float64(bodies)
	return max(1, int64(float64(k.TotalRate)*share*share))
}

// delay is how late a response is.
func (k Knobs) delay(cdn bool) time.Duration {
	if cdn {
		return k.CDNLatency
	}
	return k.Latency
}
