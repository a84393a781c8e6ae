package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLinesComeAtMostOnceASecondAndPerTenth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{out: &out, label: "pull"}
		l.update(0, 1000)
		for done := int64(1); done <= 1000; done++ { // 10 s
			time.Sleep(10 * time.Millisecond)
			l.update(done, 1000)
		}
		l.close()
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		require.Len(t, got, 11)
		assert.Equal(t, "pull   0 %  0 B of 1.00 kB", got[0])
		assert.Equal(t, "pull  10 %  100 B of 1.00 kB  100 B/s  9s left", got[1])
		assert.Equal(t, "pull 100 %  1.00 kB of 1.00 kB  100 B/s", got[10])
	})
}

func TestSlowLinesComeAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{out: &out, label: "pull"}
		l.update(0, 1e6)
		for done := range int64(65) {
			time.Sleep(time.Second)
			l.update(done, 1e6)
		}
		assert.Equal(t, 3, strings.Count(out.String(), "\n"))
	})
}

func TestTheRateCountsOnlyWhatMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{out: &out, label: "pull"}
		l.update(900, 1000)
		time.Sleep(10 * time.Second)
		l.update(1000, 1000)
		assert.True(t, strings.HasSuffix(out.String(), "1.00 kB of 1.00 kB  10 B/s\n"), out.String())
	})
}

func TestALongTimeLeftIsNotTold(t *testing.T) {
	for total, want := range map[int64]string{
		3_600: "  1 B/s  59m59s left\n", 400_000: "  1 B/s\n", 100e9: "  1 B/s\n", 1e18: "  1 B/s\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := &lines{out: &out, label: "pull"}
			l.update(0, total)
			time.Sleep(time.Second)
			l.update(1, total)
			l.close()
			assert.True(t, strings.HasSuffix(out.String(), want), out.String())
		})
	}
}

func TestAnEndBeforeTheEndSaysHowFarItGot(t *testing.T) {
	var out bytes.Buffer
	l := &lines{out: &out, label: "push"}
	l.update(0, 1000)
	l.update(30, 1000)
	l.close()
	assert.Contains(t, out.String(), "push   3 %")
	l.close()
	assert.Equal(t, 2, strings.Count(out.String(), "\n"))
}

func TestTheBarShowsWhatIsLeft(t *testing.T) {
	var out bytes.Buffer
	b := &bar{out: &out, label: "pull"}
	b.update(500, 1000)
	b.update(400, 1000)
	b.update(1000, 1000)
	b.close()
	assert.Contains(t, out.String(), "pull (500 B there already)")
	assert.Contains(t, out.String(), "500/500 B")
	assert.True(t, strings.HasSuffix(out.String(), "\n"))
}

func TestTheBarIsSilentWithNothingToMove(t *testing.T) {
	var out bytes.Buffer
	b := &bar{out: &out, label: "pull"}
	b.close()
	b.update(1000, 1000)
	b.close()
	assert.Empty(t, out.String())
}

func TestTheDisplayFitsTheOutput(t *testing.T) {
	var out bytes.Buffer
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	assert.False(t, isTerminal(&out))
	assert.False(t, isTerminal(file))
	j := &job{app: &app{stderr: &out, getenv: noEnv}, settings: &settings{}}
	assert.IsType(t, &lines{}, j.newMeter("pull").show)
	j.quiet = true
	assert.IsType(t, silence{}, j.newMeter("pull").show)
}

func TestTheMeterTellsTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &job{app: &app{}, settings: &settings{quiet: true}}
		m := j.newMeter("pull")
		m.update(1000, 5000)
		time.Sleep(2 * time.Second)
		m.update(5000, 5000)
		o := m.close(3)
		assert.Equal(t, outcome{blobs: 3, total: 5000, moved: 4000, took: 2 * time.Second}, o)
		assert.Equal(t, "3 blobs, 5.00 kB in 2.0 s (1.00 kB were there already), 2.00 kB/s", o.String())
	})
}
