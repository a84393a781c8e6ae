package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// columns are those of the CSV, in the order of sample.record.
var columns = []string{"workload", "title", "contender", "round", "wall_s", "cpu_s", "peak_bytes",
	"mallocs", "requests", "methods", "connections", "body_bytes", "wire_bytes", "twice_bytes", "cannot",
	"failure", "commit", "day"}

// appendCSV adds runs to a file, which is made where there is none.
func appendCSV(path string, samples []sample) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	var records [][]string
	if fi, err := f.Stat(); err == nil && fi.Size() == 0 {
		records = append(records, columns)
	}
	for _, s := range samples {
		records = append(records, s.record())
	}
	return errors.Join(csv.NewWriter(f).WriteAll(records), f.Close())
}

func (s sample) record() []string {
	methods := strings.Trim(fmt.Sprint(s.counts.Methods), "map[]") // in the order of their names
	return []string{
		s.workload.name, s.workload.title, s.name, fmt.Sprint(s.round), fmt.Sprint(s.wall.Seconds()),
		fmt.Sprint(s.cpu.Seconds()), fmt.Sprint(s.memory), fmt.Sprint(s.mallocs), fmt.Sprint(s.counts.Requests),
		methods, fmt.Sprint(s.counts.Connections), fmt.Sprint(s.counts.Body),
		fmt.Sprint(s.counts.Wire), fmt.Sprint(s.counts.Duplicates), s.cannot, s.failure, s.commit, s.day,
	}
}

// readCSV reads what appendCSV has written. Each run must be of a workload as that is now.
func readCSV(path string) (samples []sample, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = len(columns)
	records, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	known := make(map[string]workload)
	for _, w := range workloads() {
		known[w.name] = w
	}
	for _, record := range records[min(1, len(records)):] {
		w := known[record[0]]
		if w.title != record[1] {
			return nil, fmt.Errorf("%s: no workload is %q, %q", path, record[0], record[1])
		}
		s, err := parseSample(w, record)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// parseSample is the opposite of record; the methods are left out.
func parseSample(w workload, record []string) (s sample, err error) {
	number := func(column int) float64 {
		n, e := strconv.ParseFloat(record[column], 64)
		err = errors.Join(err, e)
		return n
	}
	s = sample{workload: w, name: record[2], round: int(number(3)), memory: int64(number(6)),
		mallocs: uint64(number(7)), cannot: record[14], failure: record[15],
		commit: record[16], day: record[17]}
	s.wall, s.cpu = time.Duration(number(4)*float64(time.Second)), time.Duration(number(5)*float64(time.Second))
	s.counts.Requests, s.counts.Connections = int64(number(8)), int64(number(10))
	s.counts.Body, s.counts.Wire, s.counts.Duplicates = int64(number(11)), int64(number(12)), int64(number(13))
	return s, err
}
