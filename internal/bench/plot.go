package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// Sizes in a chart, in pixels.
const (
	chartWidth = 720
	barStart   = 130 // what is left of it is for names
	barLength  = chartWidth - barStart - 150
	rowHeight  = 18
)

// drawCharts draws an SVG for each group of workloads: in it, one below the other, the median wall time of
// each contender with the fastest and the slowest round. The times of two workloads are not on one scale.
func drawCharts(dir string, results []result) error {
	drawings := make(map[string]*drawing)
	for _, r := range results {
		d := drawings[r.workload.chart]
		if d == nil {
			d = &drawing{}
			drawings[r.workload.chart] = d
		}
		d.add(r)
	}
	for group, d := range drawings {
		const head = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-size="12" ` +
			`font-family="sans-serif"><rect width="100%%" height="100%%" fill="white"/>` + "\n%s</svg>\n"
		svg := fmt.Sprintf(head, chartWidth, d.height+rowHeight, d.body.String())
		if err := os.WriteFile(filepath.Join(dir, group+".svg"), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// drawing is a chart that grows downwards.
type drawing struct {
	body   strings.Builder
	height int
}

// add draws the rows of a workload.
func (d *drawing) add(r result) {
	d.height += 2 * rowHeight
	d.text(8, "start", "bold", fmt.Sprintf("%s: %s (seconds)", r.workload.name, r.workload.title))
	slowest := 0.0
	for _, row := range r.rows {
		slowest = max(slowest, row.of[wall].max)
	}
	for _, row := range r.rows {
		if row.trouble == "" {
			d.height += rowHeight
			d.bar(row.label(), row.of[wall], barLength/slowest)
		}
	}
}

func (d *drawing) bar(name string, s spread, scale float64) {
	at := func(seconds float64) float64 { return barStart + seconds*scale }
	middle := d.height - rowHeight/4
	d.text(barStart-8, "end", "normal", name)
	fmt.Fprintf(&d.body, `<rect x="%d" y="%d" width="%.1f" height="10" fill="#6b8ec8"/>`+"\n",
		barStart, middle-5, s.median*scale)
	fmt.Fprintf(&d.body, `<path d="M%.1f %dH%.1fM%[1]f %[4]dv8M%[3]f %[4]dv8" stroke="black"/>`+"\n",
		at(s.min), middle, at(s.max), middle-4)
	d.text(int(at(s.max))+8, "start", "normal", fmt.Sprintf("%.3g", s.median))
}

func (d *drawing) text(x int, anchor, weight, text string) {
	fmt.Fprintf(&d.body, `<text x="%d" y="%d" text-anchor="%s" font-weight="%s">%s</text>`+"\n",
		x, d.height, anchor, weight, html.EscapeString(text))
}
