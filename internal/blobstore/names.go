package blobstore

import (
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A file of an unfinished blob has the blob's final name and one of these suffixes.
const (
	partialSuffix = ".partial"  // the data, which is also what is locked
	journalSuffix = ".journal"  // which of it is complete
	uniqueSuffix  = ".partial-" // and random letters: data that nobody continues
	prefixSuffix  = ".tmp"      // the first bytes, left by a program that writes from front to back
)

// sharedNames is how many names all processes try for a data file, in the same order. The second and later
// ones are for directories where something that is no data file has the first.
const sharedNames = 4

// nameOf returns the final name of a blob.
func nameOf(dg digest.Digest) string {
	return dg.Algorithm().String() + "-" + dg.Encoded()
}

// dataName returns a name that all processes know: "<final>.partial", "<final>.partial.1" and so on.
func dataName(final string, n int) string {
	if n == 0 {
		return final + partialSuffix
	}
	return final + partialSuffix + "." + strconv.Itoa(n)
}

// journalName returns the name of the journal of a shared data file.
func journalName(data string) string { return strings.Replace(data, partialSuffix, journalSuffix, 1) }
