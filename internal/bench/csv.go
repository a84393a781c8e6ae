package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// columns are those of the CSV: the figures, and what is before and after them.
var columns = []string{"workload", "title", "contender", "round", "wall_s", "cpu_s", "peak_bytes", "mallocs",
	"requests", "connections", "body_bytes", "twice_bytes", "cannot", "failure", "commit", "day"}

// firstFigure is the column of the first figure.
const firstFigure = 4

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
	record := []string{s.workload.name, s.workload.title, s.name, strconv.Itoa(s.round)}
	for _, v := range s.of {
		record = append(record, strconv.FormatFloat(v, 'f', -1, 64))
	}
	return append(record, s.cannot, s.failure, s.commit, s.day)
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
		s, err := parseSample(known[record[0]], record)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// parseSample is the opposite of record.
func parseSample(w workload, record []string) (s sample, err error) {
	if w.title != record[1] {
		return s, fmt.Errorf("no workload is %q, %q", record[0], record[1])
	}
	s = sample{workload: w, name: record[2]}
	s.round, err = strconv.Atoi(record[3])
	for i := range s.of {
		v, e := strconv.ParseFloat(record[firstFigure+i], 64)
		s.of[i], err = v, errors.Join(err, e)
	}
	rest := record[firstFigure+len(s.of):]
	s.cannot, s.failure, s.commit, s.day = rest[0], rest[1], rest[2], rest[3]
	return s, err
}
