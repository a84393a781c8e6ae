package statemachine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// scenario is all that is random: the same one does the same calls again.
type scenario struct {
	Mode    registrytest.Mode
	Options registrytest.Options // without functions
	Direct  bool                 // the registry serves and takes blobs itself, without redirects to a store
	Ollama  string               // "direct" or "parts" for an Ollama registry that takes blobs so
	Space   int64                // bytes of the disk of the downloads before it is made larger; 0: enough
	Gentle  bool                 // no fault destroys bytes that have arrived, so that little is moved twice
	Link    int                  // bytes a second that pass between the client and all servers; 0: no limit
	Habits  habits
	Blobs   []blob
	Steps   []step
}

type blob struct {
	Size   int
	Remote bool // the registry has it from the beginning
}

// step is one thing that happens. The zero fields do not.
type step struct {
	Calls  []call
	Faults []fault
	Damage []damage // before the calls
	Outage outage
	Away   away
	Holder string        // how another call holds all blobs meanwhile; see holders
	Again  int           // how often all of it is done again
	Kill   time.Duration // when the process of the calls is killed; 0: never
	Fill   time.Duration // when others take the rest of the disk of the downloads; 0: never
}

// outage is a time in which a host cannot be reached over new connections. Open ones break as it begins.
type outage struct {
	Host   string // "": none
	How    string
	At     time.Duration
	Lasts  time.Duration
	Breaks bool
}

// away is a time in which there are no tokens.
type away struct{ At, Lasts time.Duration }

// call is a download or an upload; those of one step run at the same time.
type call struct {
	Upload      bool
	Blobs       []bool
	Concurrency int
	Bodies      int
	Cap         int64
	Verify      bool
	Mirror      bool
	Mount       bool
	Manifest    bool
	Reuse       string        // what a download may take bytes from; "": nothing
	Changes     time.Duration // when that changes, where it does
	Cancel      time.Duration // 0: never
}

type fault struct {
	Store          bool
	Method, Script string
}

// damage changes a file in the directory of the downloads.
type damage struct {
	Which, At int // among those that are there; both are taken modulo
	How       string
}

func (s scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s direct=%t ollama=%q space=%d gentle=%t link=%d %+v\n  habits %+v\n  blobs %+v\n",
		s.Mode, s.Direct, s.Ollama, s.Space, s.Gentle, s.Link, s.Options, s.Habits, s.Blobs)
	for i, st := range s.Steps {
		fmt.Fprintf(&b, "  step %d: damage %+v faults %+v outage %+v away %+v holder %q",
			i, st.Damage, st.Faults,
			st.Outage, st.Away, st.Holder)
		fmt.Fprintf(&b, " again %d kill %s fill %s\n", st.Again, st.Kill, st.Fill)
		for _, c := range st.Calls {
			fmt.Fprintf(&b, "    %+v\n", c)
		}
	}
	return b.String()
}

const mebibyte = 1 << 20

var (
	sizes = rapid.SampledFrom([]int{0, 1, 1000, 1000, 65536, 65536, mebibyte, mebibyte + 1, 3 * mebibyte,
		9 * mebibyte, 32*mebibyte + 1, 50 * mebibyte})
	methods = rapid.SampledFrom([]string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
	amounts = rapid.SampledFrom([]string{"0", "1", "999", "1K", "50K", "1M", "2000K", "8M", "9M", "40M"})
	waits   = rapid.SampledFrom([]string{"1ms", "300ms", "3s", "40s"})

	// faults stand for one each; # is an amount and @ a duration.
	faults = rapid.OneOf(ofTheWay, ofRegistries, ofRegistries) // the first is drawn most

	ofRegistries = rapid.SampledFrom([]string{
		"ok", "ok", "ok", "200", "202", "204", "206", "304", "400", "403", "404", "408", "410", "411", "413",
		"416", "429", "500", "502", "503", "504",
		"429(retry-after: 1)", "503(retry-after: 100)", "401", "redirect(?again)",
		"redirect(http://nowhere.test/)", "redirect(file:///etc/passwd)", "302",
		"errorbody(#)", "errorbody(endless)", "hangup", "reset", "stallheaders", "206", "range()",
		"range(bytes 0-0/1)", "asked(bytes=5-9)", "norange",
		"encoding(gzip)", "chunked", "clen(#)", "header(location: ?x; -range)", "header(-location)",
		"header(-docker-content-digest; etag: \"x\")", "headerbomb(#)", "hints(3)", "goaway",
		"reset(#)", "connreset(#)", "eof(#)", "noclen(#)", "noclen", "truncchunk(#)", "stall(#)", "long(#)",
		"endless", "flip(#)", "slow(200K)", "slow(5M)",
		"cut(#)", "stallbody(#)", "delay(@)",
		"swallow", "swallow+504", "swallow+reset", "swallow+stallheaders",
		"delay(@)+500", "delay(@)+reset(#)",
	})

	// ofTheWay are what proxies, portals and object stores between us and the registry add.
	ofTheWay = rapid.SampledFrom([]string{
		"page", "520", "521", "523", "524", "530", "says(403, denied)", "late(@)", "read+late(@)+504",
		"416(content-range: bytes */1)",
		"s3(400 ExpiredToken)", "s3(403 AccessDenied)", "s3(400 RequestTimeout)",
	})

	// gentle faults destroy nothing that has arrived.
	gentle = rapid.SampledFrom([]string{
		"reset(#)", "connreset(#)", "eof(#)", "stall(#)", "hangup", "reset", "goaway", "delay(@)",
		"late(@)",
		"408", "425", "429(retry-after: 1)", "500", "502", "503", "504",
		"520", "521", "522", "523", "524", "530",
		"page",
	})

	// refusals of an object store are gentle too. A registry would say with them that it does not tell what
	// it has.
	refusals = rapid.SampledFrom([]string{
		"s3(400 ExpiredToken)", "s3(403 AccessDenied)", "s3(400 RequestTimeout)",
		"says(403, denied)", "404", "410",
	})

	held = rapid.SampledFrom([]string{"", "", "", "dead", "stalled"})

	hosts = rapid.SampledFrom([]string{"registry.test", "store.test"})
	ends  = rapid.SampledFrom([]string{"no such host", "server misbehaving", "refused"})
)

func drawScenario(t *rapid.T) scenario {
	s := scenario{
		Mode:   rapid.SampledFrom(registrytest.Modes()).Draw(t, "mode"),
		Direct: rapid.Bool().Draw(t, "direct"),
		Blobs:  rapid.SliceOfN(rapid.Custom(drawBlob), 1, 6).Draw(t, "blobs"),
	}
	s.Options = registrytest.Options{
		Token: "secret-token", Latency: time.Millisecond,
		SingleShot: rapid.Bool().Draw(t, "single"),
		NoRange:    rapid.IntRange(0, 5).Draw(t, "no range") == 5,
		NoMount:    rapid.Bool().Draw(t, "no mount"),
		Sessions: registrytest.Sessions{
			RelativeLocation: rapid.Bool().Draw(t, "relative"),
			StrictState:      rapid.Bool().Draw(t, "strict"),
			MinChunk:         rapid.SampledFrom([]int64{0, 0, 1000, 5 * mebibyte}).Draw(t, "min chunk"),
		},
		CheckManifest: rapid.Bool().Draw(t, "check manifest"),
		MaxBody:       rapid.SampledFrom([]int64{0, 0, 0, 6 * mebibyte}).Draw(t, "max body"),
		Redirects: registrytest.Redirects{
			SignedFor:     rapid.SampledFrom(lifetimes).Draw(t, "signed for"),
			ExpiredStatus: rapid.SampledFrom(expiredStatuses).Draw(t, "expired"),
		},
	}
	s.Ollama = rapid.SampledFrom([]string{"", "", "", "direct", "parts"}).Draw(t, "ollama")
	s.Space = spaces.Draw(t, "space")
	s.Link = rapid.SampledFrom([]int{0, 0, 0, 0, 2 * mebibyte}).Draw(t, "link")
	drawHabits(t, &s)
	drawn := rapid.Custom(func(t *rapid.T) step { return drawStep(t, len(s.Blobs)) })
	s.Steps = rapid.SliceOfN(drawn, 1, 5).Draw(t, "steps")
	return s
}

var (
	// lifetimes are those of signed URLs. The shortest is over before a piece's turn has come.
	lifetimes       = []time.Duration{0, 0, 20 * time.Second, 5 * time.Second}
	expiredStatuses = []int{0, 400, 401, 404, 410}
)

// drawGentle draws calls for a few blobs, one of them large, under faults that destroy nothing.
func drawGentle(t *rapid.T) scenario {
	s := scenario{
		Gentle: true,
		Mode:   rapid.SampledFrom(registrytest.Modes()).Draw(t, "mode"),
		Direct: rapid.Bool().Draw(t, "direct"),
		Blobs: []blob{
			{Size: 50 * mebibyte, Remote: rapid.Bool().Draw(t, "remote")},
			{Size: 1000, Remote: true},
		},
		Space: rapid.SampledFrom([]int64{0, 0, 0, 40 * mebibyte, 1 << 30}).Draw(t, "space"),
	}
	s.Options = registrytest.Options{
		Token: "secret-token", Latency: time.Millisecond,
		Redirects: registrytest.Redirects{
			SignedFor:     rapid.SampledFrom(lifetimes).Draw(t, "signed for"),
			ExpiredStatus: rapid.SampledFrom(expiredStatuses).Draw(t, "expired"),
		},
	}
	s.Steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		st := step{
			Calls:  drawGentleCalls(t, 2, cancels),
			Faults: rapid.SliceOfN(rapid.Custom(drawGentleFault), 0, 3).Draw(t, "faults"),
			Outage: drawOutage(t),
		}
		st.Kill, st.Fill = kills.Draw(t, "kill"), fills.Draw(t, "fill")
		return st
	}), 1, 6).Draw(t, "steps")
	return s
}

// drawGentleCalls draws one call or two at once, of which one uploads at most: two would each send all.
func drawGentleCalls(t *rapid.T, blobs int, cancels *rapid.Generator[time.Duration]) []call {
	calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			Upload: rapid.Bool().Draw(t, "upload"), Blobs: slices.Repeat([]bool{true}, blobs),
			Concurrency: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "concurrency"),
			Cancel:      cancels.Draw(t, "cancel"),
			Reuse:       reuses.Draw(t, "reuse"), Changes: changes.Draw(t, "changes"),
		}
	}), 1, 2).Draw(t, "calls")
	if len(calls) == 2 && calls[0].Upload {
		calls[1].Upload = false
	}
	return calls
}

// mostTimes is how often in a row a fault comes that destroys nothing.
const mostTimes = 3

func drawGentleFault(t *rapid.T) fault {
	f := strings.ReplaceAll(gentle.Draw(t, "fault"), "#", amounts.Draw(t, "amount"))
	f = strings.ReplaceAll(f, "@", waits.Draw(t, "wait"))
	times := rapid.IntRange(1, mostTimes).Draw(t, "times")
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 6:
		return fault{Store: true, Method: methods.Draw(t, "method"),
			Script: fmt.Sprintf("ok->%d*%s", times, refusals.Draw(t, "refusal"))}
	case 7: // one of many nodes, and one time
		return fault{Store: rapid.Bool().Draw(t, "store"), Method: "GET", Script: "ok->416"}
	}
	return fault{Store: rapid.Bool().Draw(t, "store"), Method: methods.Draw(t, "method"),
		Script: fmt.Sprintf("ok->%d*%s", times, f)}
}

func drawOutage(t *rapid.T) outage {
	if rapid.IntRange(0, 3).Draw(t, "outage") < 3 {
		return outage{}
	}
	return outage{
		Host: hosts.Draw(t, "host"),
		How:  ends.Draw(t, "how"),
		At: rapid.SampledFrom([]time.Duration{3 * time.Millisecond, 40 * time.Millisecond,
			time.Second}).Draw(t, "at"),
		Lasts:  rapid.SampledFrom([]time.Duration{time.Second, 15 * time.Second}).Draw(t, "lasts"),
		Breaks: rapid.Bool().Draw(t, "breaks"),
	}
}

var (
	cancels = rapid.SampledFrom([]time.Duration{0, 0, 1, 2 * time.Millisecond, 7 * time.Millisecond,
		time.Second, 10 * time.Second})

	// spaces are bytes of a disk; zero is enough for everything.
	spaces = rapid.SampledFrom([]int64{0, 0, 0, 0, 2 * mebibyte, 20 * mebibyte, 60 * mebibyte, 1 << 30})

	fills = rapid.SampledFrom([]time.Duration{0, 0, 0, 3 * time.Millisecond, 20 * time.Millisecond,
		2 * time.Second})

	// kills are at moments at which nothing else happens.
	kills = rapid.SampledFrom([]time.Duration{
		0, 0, 0, 2*time.Millisecond + 137, 5*time.Millisecond + 1739, 40*time.Millisecond + 2311,
		time.Second + 977, 9*time.Second + 3,
	})
)

func drawBlob(t *rapid.T) blob {
	return blob{Size: sizes.Draw(t, "size"), Remote: rapid.Bool().Draw(t, "remote")}
}

func drawStep(t *rapid.T, blobs int) step {
	return step{
		Calls: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call { return drawCall(t, blobs) }), 1, 3).Draw(t,
			"calls"),
		Faults: rapid.SliceOfN(rapid.Custom(drawFault), 0, 4).Draw(t, "faults"),
		Damage: rapid.SliceOfN(rapid.Custom(drawDamage), 0, 2).Draw(t, "damage"),
		Outage: drawOutage(t),
		Kill:   kills.Draw(t, "kill"),
		Fill:   fills.Draw(t, "fill"),
		Away:   drawAway(t),
		Holder: held.Draw(t, "holder"),
	}
}

// drawAway draws a time that is shorter than calls wait for.
func drawAway(t *rapid.T) away {
	return away{
		At:    rapid.SampledFrom([]time.Duration{40 * time.Millisecond, 4 * time.Second}).Draw(t, "away at"),
		Lasts: rapid.SampledFrom([]time.Duration{0, 0, 0, 2 * time.Second, 15 * time.Second}).Draw(t, "away"),
	}
}

func drawCall(t *rapid.T, blobs int) call {
	return call{
		Upload:      rapid.Bool().Draw(t, "upload"),
		Blobs:       rapid.SliceOfN(rapid.Bool(), blobs, blobs).Draw(t, "which"),
		Concurrency: rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(t, "concurrency"),
		Bodies:      rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "bodies"),
		Cap:         rapid.SampledFrom([]int64{0, 0, 0, 3 * mebibyte}).Draw(t, "cap"),
		Verify:      rapid.Bool().Draw(t, "verify"),
		Mirror:      rapid.IntRange(0, 3).Draw(t, "mirror") == 3,
		Mount:       rapid.Bool().Draw(t, "mount"),
		Manifest:    rapid.Bool().Draw(t, "manifest"),
		Cancel:      cancels.Draw(t, "cancel"),
		Reuse:       reuses.Draw(t, "reuse"), Changes: changes.Draw(t, "changes"),
	}
}

func drawFault(t *rapid.T) fault {
	script := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		f := faults.Draw(t, "fault")
		f = strings.ReplaceAll(f, "#", amounts.Draw(t, "amount"))
		f = strings.ReplaceAll(f, "@", waits.Draw(t, "wait"))
		return fmt.Sprintf("%d*%s", rapid.SampledFrom([]int{1, 1, 2, 5, 20}).Draw(t, "times"), f)
	}), 1, 3).Draw(t, "script")
	return fault{Store: rapid.IntRange(0, 2).Draw(t, "store") == 2, Method: methods.Draw(t, "method"),
		Script: strings.Join(script, "->")}
}

func drawDamage(t *rapid.T) damage {
	return damage{
		Which: rapid.IntRange(0, 20).Draw(t, "which"),
		At:    rapid.IntRange(0, 60*mebibyte).Draw(t, "at"),
		How: rapid.SampledFrom([]string{"flip", "cut", "grow", "empty", "remove", "rename to .tmp",
			"link"}).Draw(t, "how"),
	}
}
