package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSizesAreParsed(t *testing.T) {
	for text, want := range map[string]byteSize{
		"0": 0, "512": 512, "10K": 10_000, "10k": 10_000, "10M": 10_000_000, "10MB": 10_000_000,
		"1 M": 1_000_000, "2Gi": 2 << 30, "2GiB": 2 << 30, "1.5Ki": 1536, "1T": 1_000_000_000_000, "7B": 7,
	} {
		var got byteSize
		require.NoError(t, got.Set(text), text)
		assert.Equal(t, want, got, text)
	}
}

func TestMalformedSizesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "M", "-1", "1e3", "NaN", "Inf", "ten", "1.2.3", "9999999999999T", "0x10",
	} {
		got := byteSize(7)
		assert.ErrorIs(t, got.Set(text), errMalformedSize, "%q", text)
		assert.Equal(t, byteSize(7), got)
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "0 B", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 15_360: "15 kB", 256e6: "256 MB", 1.53e9: "1.5 GB",
	} {
		assert.Equal(t, want, formatBytes(n))
	}
}

func TestCountsHaveTheirNoun(t *testing.T) {
	assert.Equal(t, "2 directories", plural(2, "directory"))
	assert.Equal(t, "1 file and 1 archive", twoCounts(1, "file", 1, "archive"))
	assert.Equal(t, "1 directory", twoCounts(0, "file", 1, "directory"))
	assert.Equal(t, "0 files", twoCounts(0, "file", 0, "directory"))
	assert.Equal(t, "1 blob", plural(1, "blob"))
	assert.Equal(t, "0 blobs", plural(0, "blob"))
	assert.Equal(t, "2,000 blobs", plural(2000, "blob"))
}

// What cannot be read is told in words, and not as package strconv says it.
func TestAValueOfAFlagThatCannotBeRead(t *testing.T) {
	for says, args := range map[string][]string{
		`tags: --timeout "3" is not a time such as 30s`:       {"tags", "--timeout", "3"},
		`pull: --max-files "8x" is not a whole number such`:   {"pull", "--max-files", "8x"},
		`demo: --tensors "99999999999999999999" is too large`: {"demo", "--tensors", "99999999999999999999"},
		`demo: --seed "-1" is not a whole number such as 8`:   {"demo", "--seed", "-1"},
		`pull: --limit-rate "3Q" is not a size such as 512`:   {"pull", "--limit-rate", "3Q"},
		`pull: --mirror "x" is not a URL such as https://mir`: {"pull", "--mirror", "x"},
	} {
		r := runWith(t, args...)
		assert.Equal(t, exitUsage, r.code, "%v", args)
		assert.Contains(t, r.stderr, "transfer: "+says)
	}
}

// Who types a command line knows flags, and not what package model calls them.
func TestAnOptionThatCannotBeIsNamedByItsFlag(t *testing.T) {
	blobs, _ := makeModel(t, demoModel{tensors: 1, seed: 1})
	ref := startedServer(t).url + "/me/model:v1"
	must(t, "push", blobs, ref)
	for says, args := range map[string][]string{
		"--timeout is negative":                        {"tags", "--timeout", "-1s", ref},
		"--stall-timeout is negative":                  {"tags", "--stall-timeout", "-1s", ref},
		"--max-files is negative":                      {"pull", "--max-files", "-1", ref, "d"},
		"--max-depth is negative":                      {"verify", "--max-depth", "-1", "d"},
		"--max-manifests is negative":                  {"copy", "--max-manifests", "-1", ref, ref},
		`--into "zip" is none of files, blobs`:         {"pull", "--into", "zip", ref, "d"},
		`--type "zip" is none of files, modelpack`:     {"push", "--type", "zip", blobs, ref},
		`--include has a malformed pattern: "["`:       {"pull", "--include", "[", ref, "d"},
		`--exclude has a malformed pattern: "["`:       {"push", "--exclude", "[", blobs, ref},
		"--include chooses among named files":          {"pull", "--include", "*", ref, t.TempDir()},
		"--exclude chooses among named files":          {"pull", "--exclude", "x", ref, t.TempDir()},
		"--exclude is for files; what is sent here is": {"push", "--exclude", "x", blobs, ref},
		"--tar is for --type files":                    {"push", "--tar", blobs, ref},
		"--artifact-type is needed, such as":           {"attach", ref, "flags.go"},
		"--reuse /dev/null is neither a file":          {"pull", "--reuse", "/dev/null", ref, t.TempDir()},
	} {
		r := runWith(t, args...)
		assert.Equal(t, exitUsage, r.code, "%v", args)
		assert.Contains(t, r.stderr, "transfer: "+says, "%v", args)
	}
}
