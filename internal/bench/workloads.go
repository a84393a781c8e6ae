package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/bench/programs"
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

	// growthBase is how many small blobs there are at first; then ten and a hundred times as many.
	growthBase = 200
)

// set is a number of blobs of one size.
type set struct {
	count int
	size  int64
}

// contest says who is compared.
type contest struct {
	contenders []string // when none are named
	rounds     int      // when nothing else is said; 0 is the default
}

// workload is something to move, from or to a registry that behaves in some way.
type workload struct {
	name, title string
	chart       string // the chart that it belongs to
	contest
	sets   []set
	upload bool
	knobs  registry.Knobs
	destination
	kill   bool           // killed at a random moment and run again; the second run counts
	link   *wan.Link      // to the registry; nil is this machine
	update *update        // of one blob of which an older version is here; nil is none
	task   *programs.Task // whole programs at a real registry instead; nil is none
}

// destination is where blobs are moved.
type destination struct {
	present float64 // the share of the blobs that is there already
	disk    bool    // it is on a real disk
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
	libraries = []string{"transfer", "first", "oras", "ggcr", "regclient"}
	many      = append(floors[:4:4], libraries...)
	distant   = append(floors[2:4:4], libraries...) // fewer workers would only wait
	one       = append([]string{"floor@1"}, append(libraries[:5:5], "aria2c", "curl")...)
	counted   = []string{"floor@16", "transfer", "first"}
	bodies    = []string{"transfer", "bodies@64", "bodies@32", "bodies@16", "bodies@8", "bodies@4",
		"bodies@2", "bodies@1"}
	fixed = []string{"transfer", "transfer@4", "transfer@8", "transfer@16", "transfer@32", "transfer@64"}
	whole = []string{"transfer", "oras", "crane", "regctl"}
)

// workloads are all that there are.
func workloads() []workload {
	return slices.Concat(downloads(), updates(), uploads(), distances(), concurrencies(), growth(), tasks())
}

func down(name, title, chart string, contenders []string, k registry.Knobs, sets ...set) workload {
	return workload{name: name, title: title, chart: chart, contest: contest{contenders: contenders},
		knobs: k, sets: sets}
}

func downloads() []workload {
	fast := registry.Knobs{}
	far := registry.Knobs{Latency: late}
	cdn := registry.Knobs{Latency: late, Redirect: true, CDNLatency: late}
	narrow := registry.Knobs{Latency: late, TotalRate: 200e6}
	disk := down("D1disk", "D1 to a real disk", "small", many, fast, small)
	disk.disk = true
	killed := down("D9", "D5, killed at a random moment, run again", "large", counted[1:], fast, large)
	killed.kill = true
	listed := down("M2", "100,000 x 4 KiB, 99 % there", "list", counted, fast, set{100_000, 4 * kib})
	listed.present = 0.99
	return []workload{
		down("D1", "2,000 x 64 KiB", "small", many, fast, small),
		disk,
		down("D2", "256 x 4 MiB", "small", many, fast, medium),
		down("D3", "D1, responses 25 ms late", "small", distant, far, small),
		down("D4", "D1, 25 ms late and redirected to a CDN 25 ms away", "small", distant, cdn, small),
		down("D5", "1 x 2 GiB", "large", one, fast, large),
		down("D6", "1 x 1 GiB, each connection held to 14 MB/s", "held", one,
			registry.Knobs{ConnRate: heldRate}, single),
		down("D7", "1 GiB + 2,000 x 64 KiB at 200 MB/s in all", "link", distant, narrow, single, small),
		down("D7alone", "the 1 GiB of D7 alone", "link", one, narrow, single),
		down("D8", "D2, one connection in 32 at 1 % of the speed", "link", distant,
			registry.Knobs{SlowEvery: 32, SlowRate: crawlRate}, medium),
		killed,
		down("weak", "64 x 256 KiB at 1 MB/s in all", "link", distant,
			registry.Knobs{Latency: late, TotalRate: 1e6}, set{64, 256 * kib}),
		down("collapse", "D2 at 400 MB/s, less with more than 16 bodies", "link", many,
			registry.Knobs{TotalRate: 400e6, CollapseAbove: 16}, medium),
		listed,
	}
}

func uploads() []workload {
	up := func(name, title string, contenders []string, s set, k registry.Knobs) workload {
		k.Empty = true
		w := down(name, title, "upload", contenders, k, s)
		w.upload = true
		return w
	}
	return []workload{
		up("U1", "2,000 x 64 KiB up", many, small, registry.Knobs{}),
		up("U2", "256 x 4 MiB up", many, medium, registry.Knobs{}),
		up("U2hash", "U2, the registry hashes too", many, medium, registry.Knobs{HashUploads: true}),
		up("U3", "U1, responses 25 ms late", distant, small, registry.Knobs{Latency: late}),
		up("U3single", "U3, the registry takes a blob in one POST", distant, small,
			registry.Knobs{Latency: late, SinglePost: true}),
	}
}

// distances are links that are far away and lose packets. Down, the concurrency that is found is compared
// with fixed ones; up, where one stream a blob is all that there is, with the peers.
func distances() (all []workload) {
	add := func(name string, s set, contenders []string, change func(*wan.Link)) *workload {
		l := wan.Link{RTT: 20 * time.Millisecond, Rate: 1e9, Queue: 40 * time.Millisecond, Loss: 0.001,
			Congestion: "reno"}
		change(&l)
		w := down(name, fmt.Sprintf("%d x %s, %s", s.count, sizeText(s.size), l), "distance", contenders,
			registry.Knobs{}, s)
		w.link = &l
		all = append(all, w)
		return &all[len(all)-1]
	}
	as := func(*wan.Link) {}
	blob, few := set{1, 300 * mib}, set{1, 30 * mib}
	add("W1", blob, bodies, as)
	add("W2small", small, append(bodies[:3:3], "oras", "ggcr", "first"), as)
	add("W2far", blob, bodies, func(l *wan.Link) { l.RTT = 100 * time.Millisecond })
	add("W2slow", few, bodies, func(l *wan.Link) { l.Rate = 10e6 })
	add("W2queue", blob, bodies, func(l *wan.Link) { l.Queue = 100 * time.Millisecond })
	add("W2bbr", blob, bodies, func(l *wan.Link) { l.Congestion = "bbr" })
	up := func(name string, s set) {
		w := add(name, s, []string{"transfer", "first", "oras", "ggcr"}, as)
		w.title += ", up"
		w.chart, w.upload, w.knobs.Empty = "up", true, true
	}
	up("W3", set{32, 8 * mib})
	up("W3small", small)
	up("W3one", set{1, 60 * mib})
	return all
}

// concurrencies compares the concurrency that is found with fixed ones.
func concurrencies() (all []workload) {
	for _, w := range downloads() {
		if slices.Contains([]string{"D1", "D2", "D3", "D4", "D5", "D6"}, w.name) {
			w.name, w.chart, w.contenders = "C1/"+w.name, "concurrency", fixed
			all = append(all, w)
		}
	}
	return all
}

// growth shows how cost grows with the number of blobs, and with that of workers.
func growth() (all []workload) {
	for _, times := range []int{1, 10, 100} {
		n := growthBase * times
		all = append(all, down(fmt.Sprintf("growth/%d", n), fmt.Sprintf("%d x 64 KiB", n), "growth",
			counted, registry.Knobs{}, set{n, small.size}))
	}
	for n := 1; n <= 64; n *= 2 {
		who := []string{fmt.Sprintf("floor@%d", n), fmt.Sprintf("transfer@%d", n)}
		all = append(all, down(fmt.Sprintf("workers/%d", n), fmt.Sprintf("D1 with %d workers", n), "workers",
			who, registry.Knobs{}, small))
	}
	return all
}

// tasks are those of whole programs, with the files in memory, on a disk that has them in its cache, and on
// one that has not.
func tasks() (all []workload) {
	add := func(name, title string, t programs.Task) {
		all = append(all, workload{name: name, title: title, chart: "programs",
			contest: contest{contenders: whole}, task: &t})
	}
	demo := programs.Model{Size: "1G", Tensors: 300}
	add("P1", "first push of 50 bytes", programs.Task{What: programs.Push})
	for _, what := range []string{programs.Push, programs.Pull} {
		title := what + " of 1 GiB + 300 tensors"
		add("P2"+what, title, programs.Task{What: what, Model: demo})
		add("P2"+what+"/disk", title+", disk", programs.Task{What: what, Model: demo, Disk: true})
		add("P2"+what+"/cold", title+", cold disk",
			programs.Task{What: what, Model: demo, Disk: true, Cold: true})
	}
	add("C", "copy of one file of 527 MB to another registry",
		programs.Task{What: programs.Copy, Model: programs.Model{Size: "527MB"}})
	return all
}

func sizeText(n int64) string {
	if n < mib {
		return fmt.Sprintf("%d KiB", n/kib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// limited tells whether a link rules, and not what a first run would warm.
func (w workload) limited() bool {
	return w.link != nil || w.knobs.ConnRate > 0 || w.knobs.TotalRate > 0 || w.knobs.SlowEvery > 0
}

// hopeless tells whether a contender need not be measured again.
func (w workload) hopeless(name string, took, best float64) bool {
	if w.link != nil && strings.Contains(name, "@") {
		return took > hopelessFixed*best
	}
	return w.limited() && took > hopelessFactor*best
}

func workloadNames() string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return strings.Join(names, ", ")
}

// findWorkloads finds those that have a name or, where none has, whose names begin so.
func findWorkloads(names []string) (found []workload, err error) {
	for _, name := range names {
		if name == "all" {
			name = ""
		}
		if w, ok := findWorkload(name); ok {
			found = append(found, w)
			continue
		}
		all := workloads()
		all = slices.DeleteFunc(all, func(w workload) bool { return !strings.HasPrefix(w.name, name) })
		if len(all) == 0 {
			return nil, fmt.Errorf("unknown workload %q, there are %s", name, workloadNames())
		}
		found = append(found, all...)
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

// bytes is how much there is to move, were none of it there; 0 for the task of a program.
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
