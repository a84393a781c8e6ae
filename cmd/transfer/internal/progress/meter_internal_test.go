package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vbauerster/mpb/v8/decor"
)

// linesOf runs a transfer in fake time and returns what was printed.
func linesOf(t *testing.T, run func(m *Meter)) string {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(*testing.T) { run(NewLines(Options{Label: "pull", Out: &out})) })
	return out.String()
}

func TestLinesComeAtMostOnceASecondAndPerTenth(t *testing.T) {
	out := linesOf(t, func(m *Meter) {
		m.Update(0, 1000)
		for done := int64(1); done <= 1000; done++ { // 10 s
			time.Sleep(10 * time.Millisecond)
			m.Update(done, 1000)
		}
		m.Close()
	})
	got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	require.Len(t, got, 11)
	assert.Equal(t, "pull   0 %  0 B of 1.0 kB", got[0])
	assert.Equal(t, "pull  10 %  100 B of 1.0 kB  100 B/s  9s left", got[1])
	assert.Equal(t, "pull 100 %  1.0 kB of 1.0 kB  100 B/s", got[10])
}

func TestSlowLinesComeAfterAWhile(t *testing.T) {
	out := linesOf(t, func(m *Meter) {
		m.Update(0, 1e6)
		for done := range int64(65) {
			time.Sleep(time.Second)
			m.Update(done, 1e6)
		}
	})
	assert.Equal(t, 3, strings.Count(out, "\n"))
}

func TestTheRateCountsOnlyWhatMoved(t *testing.T) {
	out := linesOf(t, func(m *Meter) {
		m.Update(900, 1000)
		time.Sleep(10 * time.Second)
		m.Update(1000, 1000)
	})
	assert.Contains(t, out, "pull  90 %  900 B of 1.0 kB (900 B there already)\n")
	assert.True(t, strings.HasSuffix(out, "1.0 kB of 1.0 kB  10 B/s\n"), out)
}

func TestTheRateFollowsALinkThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewSilent()
		var done int64
		for i := range 60 {
			m.Update(done, 1e9)
			if i < 30 {
				done += 1000
			} else {
				done += 10
			}
			time.Sleep(time.Second)
		}
		assert.InDelta(t, 10, m.rate(), 1)
	})
}

func TestALongTimeLeftIsNotTold(t *testing.T) {
	for total, want := range map[int64]string{
		3_600: "  1 B/s  59m59s left\n", 300_000: "  1 B/s  83h19m left\n", 400_000: "  1 B/s\n",
		100e9: "  1 B/s\n", 1e18: "  1 B/s\n",
	} {
		out := linesOf(t, func(m *Meter) {
			m.Update(0, total)
			time.Sleep(time.Second)
			m.Update(1, total)
			m.Close()
		})
		assert.True(t, strings.HasSuffix(out, want), out)
	}
}

func TestAnEndBeforeTheEndSaysHowFarItGot(t *testing.T) {
	out := linesOf(t, func(m *Meter) {
		m.Update(0, 1000)
		m.Update(30, 1000)
		m.Close()
		m.Close()
	})
	assert.Contains(t, out, "pull   3 %")
	assert.Equal(t, 2, strings.Count(out, "\n"))
}

func TestNothingIsShownWhereNothingMoves(t *testing.T) {
	assert.Empty(t, linesOf(t, func(m *Meter) {
		m.Update(1000, 1000)
		m.Close()
	}))
	var out bytes.Buffer
	m := NewBar(Options{Label: "pull", Out: &out})
	m.Update(1000, 1000)
	m.Close()
	assert.Empty(t, out.String())
}

func TestWhatIsDoneSoonNeedsNoLines(t *testing.T) {
	for total, want := range map[int64]int{1: 0, 3: 2} {
		var out bytes.Buffer
		synctest.Test(t, func(*testing.T) {
			m := NewLines(Options{Label: "hash", Out: &out, Delay: 2 * time.Second})
			for done := range total + 1 {
				m.Update(done, total)
				time.Sleep(time.Second)
			}
			m.Close()
		})
		assert.Equal(t, want, strings.Count(out.String(), "\n"), out.String())
	}
}

func TestLinesOfAPushWaitUntilSomethingMoves(t *testing.T) {
	for name, tc := range map[string]struct {
		there int64
		want  string
	}{
		"all there": {there: 1000},
		"half of it": {
			there: 500,
			want: "push  60 %  600 B of 1.0 kB (500 B there already)\n" +
				"push 100 %  1.0 kB of 1.0 kB\n",
		},
	} {
		var out bytes.Buffer
		synctest.Test(t, func(*testing.T) {
			m := NewLines(Options{Label: "push", Out: &out, UntilMoved: true})
			m.Update(0, 1000)
			m.There(tc.there)
			for _, done := range []int64{tc.there, min(tc.there+100, 1000), 1000} {
				m.Update(done, 1000)
			}
			m.Close()
		})
		assert.Equal(t, tc.want, out.String(), name)
	}
}

func TestRetriesAreShown(t *testing.T) {
	out := linesOf(t, func(m *Meter) { m.Note("trying again: 503") })
	assert.Equal(t, "pull: trying again: 503\n", out)
}

func TestOneNoteASecondIsEnough(t *testing.T) {
	out := linesOf(t, func(m *Meter) {
		for range 64 { // all blobs, when a link is cut
			m.Note("trying again: reset")
		}
		time.Sleep(time.Second)
		m.Note("trying again: 503")
	})
	assert.Equal(t, "pull: trying again: reset\npull: trying again: 503\n", out)
}

func TestTheBarEndsWithItsLastLine(t *testing.T) {
	var out bytes.Buffer
	blobs := func() []Blob { return []Blob{{"model.gguf", 5, 10}} }
	m := NewBar(Options{Label: "pull", Out: &out, Blobs: blobs})
	m.Update(500, 1000)
	m.Note("trying again: 503")
	m.Update(400, 1000)
	m.Update(1000, 1000)
	m.Close()
	assert.EqualValues(t, 500, m.moved())
	last := out.String()[strings.LastIndex(out.String(), "pull"):]
	assert.Contains(t, last, "pull 100%")
	assert.NotContains(t, last, "model.gguf")
	assert.True(t, strings.HasSuffix(last, "\n"))
}

func TestTheLinesBelowTheBarAreBlobsAndTheNote(t *testing.T) {
	b := &bar{noted: time.Now(), line: state{
		retry: "trying again: 503", blobs: func() []Blob { return []Blob{{"small", 1, 2}, {"large", 1, 4}} },
	}}
	draw := func(i int) string {
		var out bytes.Buffer
		require.NoError(t, b.extend(&out, decor.Statistics{AvailableWidth: 60}, i))
		return out.String()
	}
	assert.Regexp(t, `^  large +25%  1 B of 4 B\n$`, draw(0))
	assert.Regexp(t, `^  small +50%  1 B of 2 B\n$`, draw(1))
	assert.Equal(t, "  trying again: 503\n", draw(2))
	assert.Empty(t, draw(3))
	b.noted = time.Now().Add(-noteTime)
	assert.Empty(t, draw(2), "an old note goes")
	b.ended = true
	assert.Empty(t, draw(0))
}

func TestEventsComeAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []int64
		m := NewEvents(Options{Event: func(completed, _ int64) { told = append(told, completed) }})
		for done := range int64(31) {
			m.Update(done, 30)
			time.Sleep(100 * time.Millisecond)
		}
		m.Update(30, 30)
		m.Close()
		assert.Equal(t, []int64{0, 10, 20, 30}, told, "and the end once")
	})
}

func TestWhatTurnsOutToBeThereIsNotMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewSilent()
		m.Update(0, 5000)
		m.There(3000)
		time.Sleep(2 * time.Second)
		m.Update(5000, 5000)
		assert.InDelta(t, 1000, m.rate(), 1)
		assert.EqualValues(t, 2000, m.moved())
		assert.EqualValues(t, 3000, m.first)
	})
}

// halfway is a state at full speed, half of it there already.
func halfway() *state {
	now := time.Now()
	return &state{
		label: "pull", began: true, first: 554e6, done: 900e6, total: 1200e6,
		samples: []sample{{now.Add(-10 * time.Second), 0}},
	}
}

func TestTheBarFitsAnyWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for width := 1; width <= 200; width++ {
			line := barLine(halfway(), width)
			assert.LessOrEqual(t, utf8.RuneCountInString(line), width, line)
			if width >= 40 {
				assert.Contains(t, line, "pull  75%", "width %d", width)
				assert.Contains(t, line, "35 MB/s  9s left", "width %d", width)
			}
			if width >= 80 {
				assert.Contains(t, line, "900 MB of 1.2 GB (554 MB there already)", "width %d", width)
			}
		}
	})
}

func TestTheBarTellsWhatWasThereFromWhatMoved(t *testing.T) {
	s := &state{first: 50, done: 75, total: 100}
	assert.Equal(t, "##########=====>    ", drawBar(s, 20))
	s.done = 100
	assert.Equal(t, "##########==========", drawBar(s, 20))
}

func TestABlobFitsAnyWidth(t *testing.T) {
	b := Blob{Name: "checkpoints/epoch-0012/model-00001-of-00030.safetensors", Done: 1e9, Total: 5e9}
	for width := 1; width <= 200; width++ {
		line := blobLine(b, width)
		assert.LessOrEqual(t, utf8.RuneCountInString(line), width)
		if width >= 40 {
			assert.Contains(t, line, ".safetensors", "width %d", width)
			assert.Contains(t, line, "20%", "width %d", width)
		}
	}
}

func TestTheLargestBlobsAreShown(t *testing.T) {
	var blobs []Blob
	for i := range int64(9) {
		blobs = append(blobs, Blob{fmt.Sprint(i), 1, i * 7 % 9})
	}
	b := &bar{line: state{blobs: func() []Blob { return blobs }}}
	var sizes []int64
	for _, blob := range b.largest() {
		sizes = append(sizes, blob.Total)
	}
	assert.Equal(t, []int64{8, 7, 6}, sizes)
}

func TestTimesHaveTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Millisecond: "2s", 59 * time.Second: "59s", 65 * time.Second: "1m05s",
		time.Hour: "1h00m", 130 * time.Minute: "2h10m",
	} {
		assert.Equal(t, want, leftText(d))
	}
}
