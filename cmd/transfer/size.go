package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a number of bytes, written like 512, 10M, 1.5GiB.
type byteSize int64

var _ flag.Value = (*byteSize)(nil)

var errMalformedSize = errors.New(`not a size such as 512, 10M or 1.5Gi`)

// units are ordered so that no suffix hides a longer one.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"KI", 1 << 10}, {"MI", 1 << 20}, {"GI", 1 << 30}, {"TI", 1 << 40},
	{"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
}

func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }

// Set parses s. On failure b is unchanged.
func (b *byteSize) Set(s string) error {
	number, factor := strings.ToUpper(s), 1.0
	number = strings.TrimSuffix(number, "B")
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = rest, u.bytes
			break
		}
	}
	if strings.Trim(number, "0123456789.") != "" {
		return errMalformedSize
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n*factor >= math.MaxInt64 {
		return errMalformedSize
	}
	*b = byteSize(n * factor)
	return nil
}

// formatBytes writes a number of bytes for people: 1.53 GB.
func formatBytes(n float64) string {
	if n < 1000 {
		return fmt.Sprintf("%.0f B", n)
	}
	const prefixes = "kMGTPE" // as the progress bar writes them
	i := -1
	for n >= 999.5 && i < len(prefixes)-1 {
		n /= 1000
		i++
	}
	digits := 0
	switch {
	case n < 9.995:
		digits = 2
	case n < 99.95:
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, n, prefixes[i])
}
