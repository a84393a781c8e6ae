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
	assert.Equal(t, "1 blob", plural(1, "blob"))
	assert.Equal(t, "0 blobs", plural(0, "blob"))
	assert.Equal(t, "2,000 blobs", plural(2000, "blob"))
}
