package progress

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onTerminal runs draw on a terminal of a size and returns what it got, without the movements of the cursor.
func onTerminal(t *testing.T, columns, rows uint16, draw func(out *os.File)) string {
	t.Helper()
	return regexp.MustCompile("\x1b\\[[0-9?]*[A-Za-z]|\r").ReplaceAllString(raw(t, columns, rows, draw), "")
}

// raw runs draw on a terminal of a size and returns what it got.
func raw(t *testing.T, columns, rows uint16, draw func(out *os.File)) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	size := &unix.Winsize{Col: columns, Row: rows}
	require.NoError(t, unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, size))
	var got bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = got.ReadFrom(master) // EIO is the end
	}()
	draw(slave)
	require.NoError(t, slave.Close())
	<-done
	require.NoError(t, master.Close())
	return got.String()
}

// screen returns what is left of an output on a terminal so wide. The bar goes up by whole lines and clears
// what is behind the cursor.
func screen(out string, columns int) string {
	var lines [][]byte
	row, column := 0, 0
	move := regexp.MustCompile("^\x1b\\[([0-9]*)([AJ])")
	for out != "" {
		for len(lines) <= row {
			lines = append(lines, nil)
		}
		if m := move.FindStringSubmatch(out); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				row = max(row-n, 0)
			} else {
				lines = append(lines[:row], lines[row][:min(column, len(lines[row]))])
			}
			out = out[len(m[0]):]
			continue
		}
		switch c := out[0]; {
		case c == '\n':
			row++
		case c == '\r':
			column = 0
		case column == columns: // it goes on in the next line
			row, column = row+1, 0
			continue
		default:
			line := append(lines[row], bytes.Repeat([]byte{' '}, max(column+1-len(lines[row]), 0))...)
			line[column] = c
			lines[row], column = line, column+1
		}
		out = out[1:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

func TestNothingIsLeftOfABarThatIsInterrupted(t *testing.T) {
	for _, columns := range []uint16{40, 80, 100} {
		out := raw(t, columns, 24, func(out *os.File) {
			blobs := []Blob{{"model-00001-of-00002.safetensors", 42e6, 120e6}}
			m := NewBar(Options{Label: "pull", Out: out, Blobs: func() []Blob { return blobs }})
			m.Update(0, 210e6)
			m.Update(92e6, 210e6)
			time.Sleep(2 * refresh)
			fmt.Fprint(out, "^C") // as the terminal echoes it
			time.Sleep(2 * refresh)
			m.Close()
			fmt.Fprintln(out, "transfer: interrupted")
		})
		require.Contains(t, out, "pull  43%")
		left := strings.TrimRight(screen(out, int(columns)), "\n")
		assert.Equal(t, "transfer: interrupted", left, "%d columns", columns)
	}
}

func TestTheBarFitsATerminal(t *testing.T) {
	const title = "model-00001-of-00002.safetensors"
	blobs := []Blob{{title, 42e6, 120e6}, {"model-00002-of-00002.safetensors", 50e6, 90e6}}
	for _, size := range [][2]uint16{{40, 24}, {80, 24}, {132, 24}, {80, 0}, {0, 0}, {40, 5}} {
		for _, label := range []string{"pull", "push"} {
			out := onTerminal(t, size[0], size[1], func(out *os.File) {
				m := NewBar(Options{Label: label, Out: out, Blobs: func() []Blob { return blobs }})
				m.Update(0, 210e6)
				m.There(20e6)
				m.Update(92e6, 210e6)
				time.Sleep(2 * refresh)
				m.Update(210e6, 210e6)
				m.Close()
			})
			width := cmp.Or(int(size[0]), 80)
			for line := range strings.SplitSeq(out, "\n") {
				assert.LessOrEqual(t, utf8.RuneCountInString(line), width, "%v: %s", size, line)
			}
			assert.Contains(t, out, label+"  43%", "%v", size)
			assert.Regexp(t, label+` 100%.*\n$`, out, "%v", size)
			assert.Contains(t, out, "  "+title, "%v", size)
		}
	}
}
