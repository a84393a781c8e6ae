package main

import (
	"context"
	"fmt"
	"strings"
)

// growthBase is how many small blobs there are at first; then ten and a hundred times as many.
const growthBase = 200

// grow shows how time per blob and memory grow with the blobs and the workers.
func (b *bench) grow(ctx context.Context) error {
	if err := b.growBlobs(ctx); err != nil {
		return err
	}
	return b.growWorkers(ctx)
}

func (b *bench) growBlobs(ctx context.Context) error {
	cells := [][]string{{"contender", "blobs", "µs per blob: min–median–max", "CPU µs per blob",
		"peak MB"}}
	for _, times := range []int{1, 10, 100} {
		w := workload{
			name: fmt.Sprintf("growth%d", times), title: fmt.Sprintf("%d x 64 KiB", growthBase*times), chart: "growth",
			sets: []set{{growthBase * times, small.size}}, contenders: []string{"floor@16", "transfer", "first"},
		}.scaled(b.scale)
		w.contenders = b.who(w)
		samples, err := b.workload(ctx, w)
		if err != nil {
			return err
		}
		for _, r := range summarize(samples) {
			cells = append(cells, r.perBlob(w, fmt.Sprint(w.count())))
		}
	}
	_, err := fmt.Fprintf(b.out, "\n**growth** with the number of blobs of 64 KiB\n\n%s", align(cells))
	return err
}

func (b *bench) growWorkers(ctx context.Context) error {
	names := b.contenders
	if len(names) == 0 {
		names = []string{"floor", "transfer"}
	}
	cells := [][]string{{"contender", "workers", "µs per blob: min–median–max", "CPU µs per blob",
		"peak MB"}}
	for workers := 1; workers <= 64; workers *= 2 {
		w := workload{name: fmt.Sprintf("workers%d", workers), title: fmt.Sprintf("D1 with %d workers", workers),
			chart: "workers", sets: []set{small}}
		w = w.scaled(b.scale)
		for _, name := range names {
			name, _, _ = strings.Cut(name, "@")
			w.contenders = append(w.contenders, fmt.Sprintf("%s@%d", name, workers))
		}
		samples, err := b.workload(ctx, w)
		if err != nil {
			return err
		}
		for _, r := range summarize(samples) {
			cells = append(cells, r.perBlob(w, r.workers))
		}
	}
	_, err := fmt.Fprintf(b.out, "\n**workers** on D1\n\n%s", align(cells))
	return err
}

// perBlob is a row of what one blob took.
func (r summary) perBlob(w workload, of string) []string {
	if r.trouble != "" {
		return []string{r.name, of, "–", "", r.trouble}
	}
	each := 1e6 / float64(w.count())
	return []string{
		r.name, of, fmt.Sprintf("%.0f–%.0f–%.0f", r.wall.min*each, r.wall.median*each, r.wall.max*each),
		fmt.Sprintf("%.0f", r.cpu*each), fmt.Sprintf("%.0f", r.memory/1e6),
	}
}
