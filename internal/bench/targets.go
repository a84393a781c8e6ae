package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// level is how far apart two medians are that are taken for the same.
const level = 1.05

// reasons say why a workload takes longer than with others.
var reasons = map[string]string{
	"D1":     "each blob is looked up, locked, synced and renamed, which keeps wrong files out",
	"D1disk": "the same, and on a disk each sync waits for it",
	"D2":     "its writes to files take longer, by the same calls; why is not known",
	"D5":     "curl checks no digest and syncs nothing: this is what the hash costs",
	"P2push": "the registry is the limit, and what is sent is hashed on the core that it does not use",
	"P2pull": "both cores are busy: each file is hashed, synced and renamed",
	"C":      "it is hashed on the way, which oras does not do; why crane and regctl are ahead is not known",
	"U1":     "what is sent is hashed, so that a wrong file never counts as pushed; oras does not",
	"U2":     "the same; the hash is half of the work",
	"W3":     "four bodies begin, and how many are fastest shows late; level with `BodyConcurrency` 32",
}

// peersOf are the rows of others that do the same work: no floor, no fixed number of this package.
func peersOf(r result) []summary {
	return slices.DeleteFunc(slices.Clone(r.rows), func(s summary) bool {
		own := []string{"floor", "transfer", "bodies"}
		return slices.Contains(own, s.name) || s.trouble != ""
	})
}

// slower lists the rows of the page, and D1 to a disk, in which others are faster, and why.
func slower(results []result) [][]string {
	rows := slices.Concat(libraryRows, programRows, []string{"D1disk"})
	cells := [][]string{{"row", "what is moved", "faster, in the time of this package", "why"}}
	for _, r := range results {
		if !slices.Contains(rows, r.workload.name) {
			continue
		}
		ours := medianOf(r.rows, "transfer")
		var faster []string
		for _, p := range peersOf(r) {
			if p.of[wall].median*level < ours {
				faster = append(faster, p.label()+" "+ratio(p.of[wall].median, ours))
			}
		}
		if faster != nil {
			cells = append(cells, []string{r.workload.name, r.workload.title, strings.Join(faster, ", "),
				cmp.Or(reasons[r.workload.name], "not known")})
		}
	}
	return cells
}

// bestFixed is the fastest of this package with a number that is fixed.
func bestFixed(r result) (best summary, ok bool) {
	for _, s := range r.rows {
		ours := s.name == "bodies" || s.name == "transfer"
		if ours && s.workers != "" && s.trouble == "" && (!ok || s.of[wall].median < best.of[wall].median) {
			best, ok = s, true
		}
	}
	return best, ok
}

// far compares what is found on far links with the best fixed number.
func far(results []result) [][]string {
	cells := [][]string{{"row", "link", "runs", "found s", "best fixed", "its s", "× median", "× worst",
		"sent twice MB", "measured"}}
	for _, r := range results {
		ours, found := rowOf(r.rows, "transfer")
		best, ok := bestFixed(r)
		if r.workload.link == nil || !found || !ok {
			continue
		}
		least := best.of[wall].median
		cells = append(cells, []string{r.workload.name, r.workload.title, fmt.Sprint(ours.rounds),
			ours.seconds(), best.workers, best.seconds(), ratio(ours.of[wall].median, least),
			ratio(ours.of[wall].max, least), fmt.Sprintf("%.1f", ours.of[twice].median/1e6), r.when()})
	}
	return cells
}

// target is a figure that a workload is to keep to.
type target struct {
	row   string
	most  float64
	what  string
	value func(all []result, r result) float64 // 0 where it was not measured
}

func targets() (all []target) {
	add := func(most float64, what string, value func([]result, result) float64, rows ...string) {
		for _, row := range rows {
			all = append(all, target{row, most, what, value})
		}
	}
	const peer, number = "× best peer", "× best fixed number"
	add(1.05, "× floor", overFloor(wall), "D2", "D3")
	add(1.10, "× floor", overFloor(wall), "D1", "weak", "collapse")
	add(1.5, "× floor", overFloor(wall), "D1disk")
	add(1.10, "× floor, CPU", overFloor(cpu), "D2")
	add(1.25, "× floor, CPU", overFloor(cpu), "D5")
	add(0.55, peer, overPeer, "U3")
	add(0.65, peer, overPeer, "D4")
	add(0.75, peer, overPeer, "D5")
	add(0.8, peer, overPeer, "U1")
	add(1.05, peer, overPeer, "U2")
	add(1, peer, overPeer, "P1", "P2push", "P2pull", "P2push/disk", "P2pull/disk", "P2push/cold",
		"P2pull/cold", "C", "W3", "W3small", "W3one")
	add(0.1, "× oras, one stream", over("D6", "oras"), "D6")
	add(1.05, "× D7alone", over("D7alone", "transfer"), "D7")
	add(1.3, "× D2", over("D2", "transfer"), "D8")
	add(537, "MB sent twice: a piece a worker", median(twice, 1e6), "D9")
	add(2, "requests a blob", median(requests, float64(small.count)), "U3single")
	add(48, "MB of memory", median(memory, 1e6), "D1", "D2", "D3", "D4", "D5", "U1", "U2", "U3")
	add(64, "MB of memory", median(memory, 1e6), "M2")
	add(2, "s", median(wall, 1), "M2")
	add(1.10, number, overFixed, "C1/D1", "C1/D2", "C1/D3", "C1/D4", "C1/D5", "C1/D6")
	far := []string{"W1", "W2small", "W2far", "W2slow", "W2queue", "W2bbr"}
	add(1.10, number, overFixed, far...)
	add(1.25, number+", worst run", worstOverFixed, far...)
	return all
}

// missedAndMet lists the targets of what was measured, those that are missed first.
func missedAndMet(results []result) [][]string {
	var met, missed [][]string
	for _, t := range targets() {
		value := t.value(results, find(results, t.row))
		line := []string{t.row, fmt.Sprintf("≤ %g %s", t.most, t.what), fmt.Sprintf("%.2f", value)}
		switch {
		case value == 0:
		case value > t.most+0.005: // as it is shown
			missed = append(missed, append(line, "missed"))
		default:
			met = append(met, append(line, "met"))
		}
	}
	return slices.Concat([][]string{{"row", "target", "measured", ""}}, missed, met)
}

// per is a/b, or 0 where one of them was not measured.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func ours(r result) summary {
	s, _ := rowOf(r.rows, "transfer")
	return s
}

// overFloor compares a figure with that of the floor.
func overFloor(f figure) func([]result, result) float64 {
	return func(_ []result, r result) float64 {
		floor, _ := rowOf(r.rows, "floor")
		return per(ours(r).of[f].median, floor.of[f].median)
	}
}

func overPeer(_ []result, r result) float64 {
	var walls []float64
	for _, p := range peersOf(r) {
		if p.name != "curl" && p.name != "aria2c" {
			walls = append(walls, p.of[wall].median)
		}
	}
	return per(ours(r).of[wall].median, least(walls))
}

// over compares with a contender of another row, or of this one.
func over(row, name string) func([]result, result) float64 {
	return func(all []result, r result) float64 {
		return per(ours(r).of[wall].median, medianOf(find(all, row).rows, name))
	}
}

func overFixed(_ []result, r result) float64 {
	best, _ := bestFixed(r)
	return per(ours(r).of[wall].median, best.of[wall].median)
}

func worstOverFixed(_ []result, r result) float64 {
	best, _ := bestFixed(r)
	return per(ours(r).of[wall].max, best.of[wall].median)
}

// median is a figure of this package, in a unit.
func median(f figure, unit float64) func([]result, result) float64 {
	return func(_ []result, r result) float64 { return ours(r).of[f].median / unit }
}
