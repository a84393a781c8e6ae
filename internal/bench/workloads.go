package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/registry"
	"github.com/modeltransfer/transfer/internal/bench/wan"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30

	// late is the delay of a registry that is far away.
	late = 25 * time.Millisecond

	// With heldRate a single stream takes 75 s for 1 GiB.
	heldRate = gib / 75

	// crawlRate is 1 % of what each of 64 connections gets of 1 GiB/s.
	crawlRate = 160 * kib
)

// set is a number of blobs of one size.
type set struct {
	count int
	size  int64
}

// workload is something to move, from or to a registry that behaves in some way.
type workload struct {
	name, title string
	chart       string // the chart that it belongs to
	sets        []set
	upload      bool
	knobs       registry.Knobs
	present     float64 // the share of the blobs that is in the destination already
	disk        bool    // the destination is on a real disk
	cold        bool    // no run beforehand: the link rules, and not what a first run would warm
	kill        bool    // killed at a random moment and run again; the second run counts
	contenders  []string
	link        *wan.Link // to the registry; nil is this machine

	// prune leaves a contender with fixed workers out of the rounds that follow when a run takes so many times
	// as long as the best one of all. Zero is never.
	prune float64
}

var (
	small  = set{2000, 64 * kib}
	medium = set{256, 4 * mib}
	large  = set{1, 2 * gib}
	single = set{1, gib}
)

// The contenders that a workload is made for, when none are named.
var (
	floors    = []string{"floor@4", "floor@8", "floor@16", "floor@64"}
	libraries = []string{"transfer", "first", "oras", "ggcr", "regclient", "containerd"}
	many      = append(floors[:4:4], libraries...)
	distant   = append(floors[2:4:4], libraries...) // fewer workers would only wait
	one       = append([]string{"floor@1"}, append(libraries[:6:6], "aria2c", "curl")...)
	bodies    = []string{"transfer", "bodies@64", "bodies@32", "bodies@16", "bodies@8", "bodies@4", "bodies@2",
		"bodies@1"}
	fixed = []string{"transfer", "transfer@4", "transfer@8", "transfer@16", "transfer@32", "transfer@64"}
)

func workloads() []workload {
	farAway := registry.Knobs{Latency: late}
	return append([]workload{
		{name: "D1", title: "2,000 x 64 KiB", chart: "small", sets: []set{small}, contenders: many},
		{name: "D1disk", title: "D1 to a real disk", chart: "small", sets: []set{small}, disk: true,
			contenders: many},
		{name: "D2", title: "256 x 4 MiB", chart: "small", sets: []set{medium}, contenders: many},
		{name: "D3", title: "D1, responses 25 ms late", chart: "small", sets: []set{small}, knobs: farAway,
			contenders: distant},
		{name: "D4", title: "D3, redirected to a CDN 25 ms away", chart: "small", sets: []set{small},
			contenders: distant, knobs: registry.Knobs{Latency: late, Redirect: true, CDNLatency: late}},
		{name: "D5", title: "1 x 2 GiB", chart: "large", sets: []set{large}, contenders: one},
		{name: "D6", title: "1 x 1 GiB, each connection held to 14 MB/s", chart: "held", sets: []set{single},
			cold: true, contenders: one,
			knobs: registry.Knobs{ConnRate: heldRate}},
		{name: "D7", title: "1 GiB + 2,000 x 64 KiB at 200 MB/s in all", chart: "link",
			sets: []set{single, small}, cold: true,
			contenders: distant, knobs: registry.Knobs{Latency: late, TotalRate: 200e6}},
		{name: "D7alone", title: "the 1 GiB of D7 alone", chart: "link", sets: []set{single}, cold: true,
			contenders: one, knobs: registry.Knobs{Latency: late, TotalRate: 200e6}},
		{name: "D8", title: "D2, one connection in 32 at 1 % of the speed", chart: "link", sets: []set{medium},
			cold: true, contenders: distant,
			knobs: registry.Knobs{SlowEvery: 32, SlowRate: crawlRate}},
		{name: "D9", title: "D5, killed at a random moment, run again", chart: "large", sets: []set{large},
			kill: true, contenders: []string{"transfer", "first"}},
		{name: "weak", title: "64 x 256 KiB at 1 MB/s in all", chart: "link", sets: []set{{64, 256 * kib}},
			cold: true, contenders: distant,
			knobs: registry.Knobs{Latency: late, TotalRate: 1e6}},
		{name: "collapse", title: "D2 at 400 MB/s, less with more than 16 bodies", chart: "link",
			sets: []set{medium}, cold: true, contenders: many,
			knobs: registry.Knobs{TotalRate: 400e6, CollapseAbove: 16}},
		{name: "M2", title: "100,000 x 4 KiB, 99 % there", chart: "list", sets: []set{{100_000, 4 * kib}},
			present: 0.99, contenders: []string{"floor@16", "transfer", "first"}},
	}, append(uploads(), distances()...)...)
}

func uploads() []workload {
	return []workload{
		{name: "U1", title: "2,000 x 64 KiB up", chart: "upload", sets: []set{small}, upload: true,
			contenders: many, knobs: registry.Knobs{Empty: true}},
		{name: "U2", title: "256 x 4 MiB up", chart: "upload", sets: []set{medium}, upload: true, contenders: many,
			knobs: registry.Knobs{Empty: true}},
		{name: "U2hash", title: "U2, the registry hashes too", chart: "upload", sets: []set{medium}, upload: true,
			contenders: many, knobs: registry.Knobs{Empty: true, HashUploads: true}},
		{name: "U3", title: "U1, responses 25 ms late", chart: "upload", sets: []set{small}, upload: true,
			contenders: distant, knobs: registry.Knobs{Empty: true, Latency: late}},
		{name: "U3single", title: "U3, the registry takes a blob in one POST", chart: "upload",
			sets: []set{small}, upload: true, contenders: distant,
			knobs: registry.Knobs{Empty: true, Latency: late, SinglePost: true}},
	}
}

// distances compares the concurrency that is found with fixed ones on links that are far away and lose
// packets.
func distances() (all []workload) {
	base := wan.Link{
		RTT: 20 * time.Millisecond, Rate: 1e9, Queue: 40 * time.Millisecond, Loss: 0.001, Congestion: "reno",
	}
	add := func(name string, s set, change func(*wan.Link)) {
		l := base
		change(&l)
		all = append(all, workload{
			name: name, title: fmt.Sprintf("%d x %s, %s", s.count, sizeText(s.size), l), chart: "distance",
			sets: []set{s},
			cold: true, contenders: bodies, link: &l, prune: 1.5,
		})
	}
	blob, few := set{1, 300 * mib}, set{1, 30 * mib}
	add("W1", blob, func(*wan.Link) {})
	add("W2small", small, func(*wan.Link) {})
	add("W2far", blob, func(l *wan.Link) { l.RTT = 100 * time.Millisecond })
	add("W2slow", few, func(l *wan.Link) { l.Rate = 10e6 })
	add("W2queue", blob, func(l *wan.Link) { l.Queue = 100 * time.Millisecond })
	add("W2bbr", blob, func(l *wan.Link) { l.Congestion = "bbr" })
	return all
}

func sizeText(n int64) string {
	if n < mib {
		return fmt.Sprintf("%d KiB", n/kib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// hopeless tells whether a contender with fixed workers need not be measured again.
func (w workload) hopeless(name string, took, best time.Duration) bool {
	return w.prune > 0 && strings.Contains(name, "@") && float64(took) > w.prune*float64(best)
}

func workloadNames() string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return strings.Join(names, ", ") + ", C1 (D1 to D6 with fixed concurrency; C1/D1 one of them), all"
}

func findWorkloads(names []string) (found []workload, err error) {
	known := append(workloads(), concurrencies()...)
	for _, name := range names {
		if name == "all" {
			found = append(found, workloads()...)
			name = "C1"
		}
		if name == "C1" {
			found = append(found, concurrencies()...)
			continue
		}
		i := slices.IndexFunc(known, func(w workload) bool { return w.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown workload %q, there are %s", name, workloadNames())
		}
		found = append(found, known[i])
	}
	return found, nil
}

func findWorkload(name string) (workload, bool) {
	for _, w := range workloads() {
		if w.name == name {
			return w, true
		}
	}
	return workload{}, false
}

// concurrencies compares the concurrency that is found with fixed ones.
func concurrencies() (all []workload) {
	for _, name := range []string{"D1", "D2", "D3", "D4", "D5", "D6"} {
		w, _ := findWorkload(name)
		w.name, w.chart, w.contenders = "C1/"+name, "concurrency", fixed
		all = append(all, w)
	}
	return all
}

// scaled is the workload with fewer blobs or, where there is only one, a smaller one.
func (w workload) scaled(scale float64) workload {
	if scale == 1 {
		return w
	}
	var sets []set
	for _, s := range w.sets {
		if s.count > 1 {
			s.count = max(1, int(float64(s.count)*scale))
		} else {
			s.size = max(1, int64(float64(s.size)*scale))
		}
		sets = append(sets, s)
	}
	w.sets = sets
	w.title += fmt.Sprintf(", at %g of the size", scale)
	return w
}

// bytes is how much there is to move, were none of it there.
func (w workload) bytes() (n int64) {
	for _, s := range w.sets {
		n += int64(s.count) * s.size
	}
	return n
}

// count is how many blobs there are.
func (w workload) count() (n int) {
	for _, s := range w.sets {
		n += s.count
	}
	return n
}

// floors are the numbers of workers that are worth trying with the floor.
func (w workload) floors() (all []string) {
	for _, c := range w.contenders {
		if strings.HasPrefix(c, "floor@") {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return []string{"floor"}
	}
	return all
}
