package main

import (
	"errors"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	chartWidth  = 11 * vg.Centimeter // of one workload
	chartHeight = 8 * vg.Centimeter
	chartsInRow = 3
)

// drawCharts draws an SVG for each group of workloads: a small chart for each of them, because their
// times are not on one scale.
func drawCharts(dir string, results []result) error {
	of := make(map[string][]*plot.Plot)
	for _, r := range results {
		p, err := wallChart(r.workload, r.rows)
		if err != nil {
			return err
		}
		of[r.workload.chart] = append(of[r.workload.chart], p)
	}
	for group, charts := range of {
		if err := drawTiles(filepath.Join(dir, group+".svg"), charts); err != nil {
			return err
		}
	}
	return nil
}

// wallChart shows the median wall time of each contender, with the fastest and the slowest
// round.
func wallChart(w workload, rows []summary) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = w.name + ": " + w.title
	p.Title.TextStyle.Font.Size = vg.Points(9)
	p.X.Label.Text = "seconds"
	p.X.Min = 0
	bars := &walls{}
	var names []string
	for i := len(rows) - 1; i >= 0; i-- { // the first one on top
		if rows[i].trouble != "" {
			continue
		}
		bars.rows = append(bars.rows, rows[i].wall)
		names = append(names, rows[i].label()+"  ") // clear of the bar
	}
	if len(names) == 0 {
		return p, nil
	}
	chart, err := plotter.NewBarChart(bars, vg.Points(9))
	if err != nil {
		return nil, err
	}
	chart.Horizontal = true
	chart.Color = color.RGBA{R: 0x6b, G: 0x8e, B: 0xc8, A: 0xff}
	chart.LineStyle.Width = 0
	spread, err := plotter.NewXErrorBars(bars)
	if err != nil {
		return nil, err
	}
	p.Add(chart, spread)
	p.NominalY(names...)
	return p, nil
}

// walls are bars with the ends that the error bars need.
type walls struct{ rows []spread }

func (w *walls) Len() int                    { return len(w.rows) }
func (w *walls) Value(i int) float64         { return w.rows[i].median }
func (w *walls) XY(i int) (float64, float64) { return w.rows[i].median, float64(i) }
func (w *walls) XError(i int) (float64, float64) {
	return w.rows[i].median - w.rows[i].min, w.rows[i].max - w.rows[i].median
}

// drawTiles draws charts beside and below each other.
func drawTiles(path string, charts []*plot.Plot) error {
	columns := min(len(charts), chartsInRow)
	rows := int(math.Ceil(float64(len(charts)) / float64(columns)))
	grid := make([][]*plot.Plot, rows)
	for i := range grid {
		grid[i] = make([]*plot.Plot, columns)
	}
	for i, p := range charts {
		grid[i/columns][i%columns] = p
	}
	return drawGrid(path, grid)
}

// drawGrid draws charts in rows of one length, the last of which may have gaps.
func drawGrid(path string, grid [][]*plot.Plot) error {
	rows, columns := len(grid), len(grid[0])
	canvas := vgsvg.New(vg.Length(columns)*chartWidth, vg.Length(rows)*chartHeight)
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 5 * vg.Millimeter, PadY: 5 * vg.Millimeter,
		PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter,
		PadRight: 4 * vg.Millimeter}
	for i, row := range plot.Align(grid, tiles, draw.New(canvas)) {
		for j, c := range row {
			if grid[i][j] != nil {
				grid[i][j].Draw(c)
			}
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}
