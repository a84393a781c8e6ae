package progress

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// maxLeft is the longest time left that is told: what the first few bytes promise is no
// forecast, and may be more than a time.Duration holds.
const maxLeft = 100 * time.Hour

func bytesText(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// leftText writes a duration with its two largest units: 9s, 1m05s, 2h10m.
func leftText(d time.Duration) string {
	s := int64(math.Ceil(d.Seconds()))
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	default:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	}
}

// minBar is the least width of a bar that says anything.
const minBar = 8

// barLine fits the state into a width: the percentage, the rate and the time left always, then the
// amounts, then a bar, then what was there already.
func barLine(s *state, width int) string {
	head := fmt.Sprintf("%s %3d%%", s.label, percent(s.done, s.total))
	tail := ""
	if rate := s.rate(); rate > 0 {
		tail = "  " + bytesText(int64(rate)) + "/s"
	}
	if left, ok := s.left(); ok {
		tail += "  " + leftText(left) + " left"
	}
	amount := fmt.Sprintf("  %s of %s", bytesText(s.done), bytesText(s.total))
	if s.first > 0 && len(head+amount+tail)+minBar+24 <= width {
		amount += fmt.Sprintf(" (%s there already)", bytesText(s.first))
	}
	if len(head+amount+tail) > width {
		amount = ""
	}
	if columns := width - len(head+amount+tail) - 3; columns >= minBar {
		head += " [" + drawBar(s, min(columns-1, 60)) + "]"
	}
	return fit(head+amount+tail, width)
}

// drawBar draws what was there already as #, what moved as =.
func drawBar(s *state, width int) string {
	scale := func(n int64) int {
		if s.total <= 0 {
			return width
		}
		return min(int(float64(n)/float64(s.total)*float64(width)), width)
	}
	there, done := scale(min(s.first, s.done)), scale(s.done)
	b := strings.Repeat("#", there) + strings.Repeat("=", done-there)
	if done < width {
		b += ">" + strings.Repeat(" ", width-done-1)
	}
	return b
}

// blobLine fits one blob into a width.
func blobLine(b Blob, width int) string {
	tail := fmt.Sprintf("  %3d%%", percent(b.Done, b.Total))
	if width >= 50 {
		tail += fmt.Sprintf("  %s of %s", bytesText(b.Done), bytesText(b.Total))
	}
	columns := width - len(tail) - 2
	name := shorten(b.Name, columns)
	if pad := min(columns, 44) - utf8.RuneCountInString(name); pad > 0 {
		name += strings.Repeat(" ", pad)
	}
	return fit("  "+name+tail, width)
}

// shorten takes the middle out of a name that is too long: its end tells one shard from the next.
func shorten(name string, width int) string {
	runes := []rune(name)
	if len(runes) <= width || width < 5 {
		return name
	}
	head := (width - 1) / 3
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// fit cuts a line at a width.
func fit(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(width-1, 0)]) + "…"
	}
	return line
}
