package statemachine

import (
	"time"

	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const kibibyte = 1 << 10

// slowLink is a link and what is moved over it.
type slowLink struct {
	speed   int
	largest int // blob
	total   int
}

// slowLinks need some minutes for all that is moved over them.
var slowLinks = []slowLink{
	{128 * kibibyte, mebibyte, 16 * mebibyte},
	{512 * kibibyte, 33 * mebibyte, 40 * mebibyte},
	{2 * mebibyte, 8 * mebibyte, 48 * mebibyte},
}

var (
	smallSizes = rapid.SampledFrom([]int{1000, 64 * kibibyte, 64*kibibyte + 1, 256 * kibibyte, 256 * kibibyte,
		mebibyte, 3 * mebibyte, 8 * mebibyte, 33 * mebibyte})

	// deadlines of calls. In the shortest, a link brings few blobs.
	deadlines = rapid.SampledFrom([]time.Duration{0, 1500 * time.Millisecond, 3 * time.Second,
		20 * time.Second})

	// shortLives of signed URLs are shorter than any call.
	shortLives = rapid.SampledFrom([]time.Duration{0, 2 * time.Second, 20 * time.Second})
)

// drawSlow draws calls for blobs that a link needs minutes for, under faults that destroy nothing.
func drawSlow(t *rapid.T) scenario {
	l := rapid.SampledFrom(slowLinks).Draw(t, "link")
	s := scenario{
		Gentle: true, Link: l.speed,
		Mode:   rapid.SampledFrom(registrytest.Modes()).Draw(t, "mode"),
		Direct: rapid.Bool().Draw(t, "direct"),
		Habits: habits{TokenFor: tokenLife.Draw(t, "token for"), Node: nodes.Draw(t, "node")},
	}
	s.Options = registrytest.Options{
		Token: "secret-token", Latency: 20 * time.Millisecond,
		Redirects: registrytest.Redirects{
			SignedFor:     shortLives.Draw(t, "signed for"),
			ExpiredStatus: rapid.SampledFrom(expiredStatuses).Draw(t, "expired"),
		},
	}
	left := l.total
	for _, size := range rapid.SliceOfN(smallSizes, 1, 24).Draw(t, "sizes") {
		if size = min(size, l.largest, left); size > 0 {
			left -= size
			s.Blobs = append(s.Blobs, blob{Size: size, Remote: rapid.IntRange(0, 3).Draw(t, "remote") > 0})
		}
	}
	s.Steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step { return drawSlowStep(t, len(s.Blobs)) }),
		1, 4).Draw(t, "steps")
	return s
}

func drawSlowStep(t *rapid.T, blobs int) step {
	st := step{
		Calls:  drawGentleCalls(t, blobs, deadlines),
		Faults: rapid.SliceOfN(rapid.Custom(drawGentleFault), 0, 2).Draw(t, "faults"),
		Outage: drawOutage(t),
		Away:   drawAway(t),
		Holder: held.Draw(t, "holder"),
		Again:  rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "again"),
	}
	st.Kill = rapid.SampledFrom([]time.Duration{0, 0, 0, 4*time.Second + 977}).Draw(t, "kill")
	return st
}
