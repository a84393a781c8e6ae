package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/modeltransfer/transfer"
	"github.com/stretchr/testify/assert"
)

// tricks are what a terminal obeys, in each of its spellings.
const tricks = "a\x1b[2Jb\u009b31mc\u202ed\re\x07"

// assertPrintable fails where a terminal would obey something.
func assertPrintable(t *testing.T, text string) {
	t.Helper()
	obeyed := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	assert.False(t, strings.ContainsFunc(text, obeyed), "%q", text)
}

func TestH9NothingReachesATerminalAsItCame(t *testing.T) {
	for _, json := range []bool{false, true} {
		var stdout, stderr lockedBuffer
		a := &app{stdout: &stdout, stderr: &stderr, getenv: noEnv}
		a.json = json
		a.say("left out %s", tricks)
		a.print("%s", tricks)
		a.event("wrong", field{"name", tricks}, field{"names", []string{tricks}})
		a.fail(adviser{a}.advise(&damagedError{dir: tricks, from: tricks, wrong: 1, all: "1 file"}))
		a.explain(t.Context(), errors.New(tricks))
		r := slog.NewRecord(time.Unix(0, 0), slog.LevelWarn, tricks, 0)
		r.Add("error", errors.New(tricks))
		assert.NoError(t, newNoteHandler(a, new(notes)).Handle(t.Context(), r))
		a.verbose = true
		a.logger().Info(tricks, "title", tricks, "error", errors.New(tricks))
		assertPrintable(t, stdout.String())
		assertPrintable(t, stderr.String())
		assert.Contains(t, stdout.String(), "31mc")
	}
	b := transfer.Blob{Digest: someDigest}
	assertPrintable(t, blobName(b, map[string]string{someDigest: tricks}))
}
