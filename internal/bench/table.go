package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/programs"
)

// writeTable writes the summaries of a workload as a Markdown table.
func writeTable(out io.Writer, w workload, rows []summary) error {
	cells := [][]string{{"contender", "wall s: min–median–max", "× floor", "× transfer", "CPU s",
		"peak MB", "requests", "conns", "wire/blobs", "twice MB", "µs/blob", "allocs/blob", "note"}}
	floor, ours := medianOf(rows, "floor"), medianOf(rows, "transfer")
	rounds := 0
	for _, r := range rows {
		cells = append(cells, r.cells(w, floor, ours))
		rounds = max(rounds, r.rounds)
	}
	_, err := fmt.Fprintf(out, "\n**%s** %s: %d rounds, %d MB\n\n%s", w.name, w.title, rounds, w.bytes()/1e6,
		markdown(cells))
	return err
}

// cells is the row of a contender.
func (r summary) cells(w workload, floor, ours float64) []string {
	name := r.label()
	if r.trouble != "" {
		return []string{name, "–", "", "", "", "", "", "", "", "", "", "", r.trouble}
	}
	median := func(f figure, format string, unit float64) string {
		return fmt.Sprintf(format, r.of[f].median/unit)
	}
	line := []string{name, r.seconds(), ratio(r.of[wall].median, floor), ratio(r.of[wall].median, ours),
		median(cpu, "%.2f", 1)}
	if w.task != nil { // nobody counts for a real registry
		return append(line, "", "", "", "", "", "", "", programs.Note(r.name))
	}
	missing := float64(w.bytes()) * (1 - w.present)
	count := float64(w.count())
	return append(line, median(memory, "%.0f", 1e6), median(requests, "%.0f", 1),
		median(connections, "%.0f", 1), median(body, "%.3f", missing), median(twice, "%.1f", 1e6),
		median(wall, "%.0f", count/1e6), median(mallocs, "%.0f", count), contender.Note(r.name))
}

// label is the name of a contender with the workers that it was told to use.
func (r summary) label() string {
	if r.workers == "" {
		return r.name
	}
	return r.name + " (" + r.workers + ")"
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// seconds are those of the fastest, the median and the slowest run.
func (r summary) seconds() string {
	return fmt.Sprintf("%.3g–%.3g–%.3g", r.of[wall].min, r.of[wall].median, r.of[wall].max)
}

// markdown makes a Markdown table of cells, the first row of which is the header.
func markdown(cells [][]string) string {
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, row := range cells {
		for i, c := range row {
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", cmp.Or(width, 1)+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}
