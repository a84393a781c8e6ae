package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// marker is around a table of a page, by its name. What is between the two is made from the CSV.
var marker = regexp.MustCompile(`(?s)<!-- bench: (\w+) -->\n.*?<!-- end -->`)

// pages are those of the docs that have figures.
type pages struct{ dir string }

func (p pages) file(name string) string { return filepath.Join(p.dir, "performance", name) }

// texts are the pages that have tables.
func (p pages) texts() []string {
	return []string{p.file("../performance.md"), p.file("notes.md"), p.file("../updates.md")}
}

// result is what is shown of a workload: the rows of the commit that it was last measured at.
type result struct {
	workload    workload
	rows        []summary
	commit, day string
}

// results reads the CSV.
func (p pages) results() ([]result, error) {
	samples, err := readCSV(p.file("runs.csv"))
	return resultsOf(samples), err
}

// resultsOf takes of each workload the runs of the commit and day of its last one, in the order of workloads.
func resultsOf(samples []sample) (all []result) {
	of := make(map[string][]sample)
	for _, s := range samples {
		had := of[s.workload.name]
		if len(had) > 0 && (had[0].commit != s.commit || had[0].day != s.day) {
			had = nil
		}
		of[s.workload.name] = append(had, s)
	}
	for _, w := range workloads() {
		if runs := of[w.name]; len(runs) > 0 {
			all = append(all, result{w, summarize(runs), runs[0].commit, runs[0].day})
		}
	}
	return all
}

// find returns the result of a workload. One that was not measured has no rows.
func find(results []result, name string) result {
	for _, r := range results {
		if r.workload.name == name {
			return r
		}
	}
	w, _ := findWorkload(name)
	return result{workload: w}
}

// show prints a table of each workload.
func (p pages) show(out io.Writer) error {
	results, err := p.results()
	if err != nil {
		return err
	}
	for _, r := range results {
		if err := writeTable(out, r.workload, r.rows); err != nil {
			return err
		}
	}
	return nil
}

// add appends runs to the CSV, with the commit and the day.
func (p pages) add(samples []sample) error {
	commit, err := p.git("rev-parse", "--short", "HEAD")
	if err != nil {
		return err
	}
	changes, err := p.git("status", "--porcelain", "--", ":/*.go", ":/**/*.go")
	if err != nil {
		return err
	}
	if changes != "" {
		commit += " and changes"
	}
	for i := range samples {
		samples[i].commit, samples[i].day = commit, time.Now().UTC().Format(time.DateOnly)
	}
	return appendCSV(p.file("runs.csv"), samples)
}

func (p pages) git(args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", p.dir}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// write writes the tables and draws the charts anew.
func (p pages) write() error {
	results, err := p.results()
	if err != nil {
		return err
	}
	for _, path := range p.texts() {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		filled, err := fill(string(text), results)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(filled), 0o644); err != nil {
			return err
		}
	}
	return drawCharts(p.file(""), results)
}

// fill puts the tables that a page names between their markers.
func fill(page string, results []result) (filled string, err error) {
	made := tables()
	if opened := strings.Count(page, "<!-- bench: "); opened != len(marker.FindAllString(page, -1)) {
		return "", errors.New("a marker has no end")
	}
	return marker.ReplaceAllStringFunc(page, func(had string) string {
		name := marker.FindStringSubmatch(had)[1]
		if made[name] == nil {
			err = errors.Join(err, fmt.Errorf("there is no table %q", name))
			return had
		}
		return fmt.Sprintf("<!-- bench: %s -->\n%s<!-- end -->", name, markdown(made[name](results)))
	}), err
}

// tables are those of the pages, by the names in their markers.
func tables() map[string]func([]result) [][]string {
	return map[string]func([]result) [][]string{
		"libraries": func(all []result) [][]string { return besides(all, libraryRows, libraryPeers) },
		"programs":  func(all []result) [][]string { return besides(all, programRows, whole) },
		"slower":    slower,
		"far":       far,
		"targets":   missedAndMet,
		"updates":   updated,
	}
}

// The rows of the page, and who is shown in them.
var (
	libraryRows  = []string{"D1", "D2", "D4", "D5", "D6", "U1", "U2", "U3", "W2small", "W3"}
	programRows  = []string{"P1", "P2push", "P2pull", "C"}
	libraryPeers = []string{"transfer", "oras", "ggcr", "curl", "first"}
)

// ofThePage are the workloads of the page with as few contenders and rounds as tell something, so that all
// take a quarter of an hour. Those that one connection holds up come last.
func ofThePage() (all []workload) {
	add := func(name string, rounds int, contenders ...string) {
		w, _ := findWorkload(name)
		w.contest = contest{contenders, rounds}
		all = append(all, w)
	}
	fast := append(libraries[:5:5], "floor@8", "floor@64")
	for _, name := range []string{"D1", "U1"} {
		add(name, 6, fast...)
	}
	for _, name := range []string{"D2", "U2"} {
		add(name, 4, fast...)
	}
	add("D4", 3, append(libraries[:5:5], "floor@64")...)
	add("U3", 3, append(libraries[:5:5], "floor@64")...)
	for _, name := range programRows {
		add(name, 3, whole...)
	}
	add("W2small", 4, append(libraries[:4:4], "bodies@64")...)
	add("W3", 3, libraries[:4]...)
	add("D5", 3, append(libraries[:5:5], "floor@1", "curl")...)
	add("D6", 3, "transfer", "oras", "curl")
	return all
}

// ofFarLinks are the far links with the contenders that are near the best, so often that their ranges mean
// something.
func ofFarLinks() (all []workload) {
	for _, w := range distances() {
		w.rounds = 20
		switch w.name {
		case "W2slow": // the link takes half a minute and differs by nothing
			w.contest = contest{[]string{"transfer", "bodies@16"}, 1}
		case "W2small":
		case "W3", "W3small", "W3one":
			w.rounds = 5
		default:
			w.contenders = []string{"transfer", "bodies@64", "bodies@32", "bodies@16"}
		}
		all = append(all, w)
	}
	return all
}

// besides shows the medians of contenders in seconds, the least in bold, and when they were measured.
func besides(results []result, rows, who []string) [][]string {
	cells := [][]string{append(append([]string{"row", "what is moved"}, who...), "measured")}
	for _, name := range rows {
		r := find(results, name)
		var walls []float64
		for _, c := range who {
			walls = append(walls, medianOf(r.rows, c))
		}
		least := least(walls)
		line := []string{r.workload.name, r.workload.title}
		for _, w := range walls {
			line = append(line, bold(w, w == least))
		}
		cells = append(cells, append(line, r.when()))
	}
	return cells
}

// least is the least of those that are not 0; 0 where there is none.
func least(values []float64) float64 {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return v == 0 })
	if len(values) == 0 {
		return 0
	}
	return slices.Min(values)
}

func bold(seconds float64, it bool) string {
	switch {
	case seconds == 0:
		return "–"
	case it:
		return fmt.Sprintf("**%.3g**", seconds)
	}
	return fmt.Sprintf("%.3g", seconds)
}

// when says when a workload was measured.
func (r result) when() string {
	if r.rows == nil {
		return "not yet"
	}
	return r.day + ", " + r.commit
}
