package pace

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// row is a row of the table: what is known, what an epoch brought, and what follows.
type row struct {
	before  search
	rate    float64
	lasted  time.Duration // the limit has been measured for
	verdict verdict
	phase   phase // that follows
	limit   int   // that follows
	best    int   // that follows
	recall  bool
	harmful int
}

const s1 = time.Second

// The links of the rows.
var (
	nearby = waits{average: time.Millisecond, nearest: time.Millisecond}
	away   = waits{average: 20 * time.Millisecond, nearest: 20 * time.Millisecond}
)

func (r *row) run(t *testing.T) {
	now := time.Unix(1000, 0)
	s := r.before
	s.most, s.active = 64, s.limit
	s.epoch.first, s.reprobe.since = now.Add(-r.lasted), now.Add(-r.lasted)
	s.reprobe.after = firstReprobe
	probe := s
	assert.Equal(t, r.verdict, probe.verdict(r.rate, now))
	s.judge(r.rate, now)
	assert.Equal(t, r.phase, s.phase, "phase")
	assert.Equal(t, r.limit, s.limit, "limit")
	assert.Equal(t, r.best, s.best, "best")
	assert.Equal(t, r.recall, s.recall, "recall")
	assert.Equal(t, r.harmful, s.harmful, "harmful")
}

func at(p phase, w waits, limit, best int, rate float64) search {
	return search{phase: p, waits: w, limit: limit, best: best, rate: rate, epoch: epoch{last: rate}}
}

// Each row of the table is a case here, and there is no other.
func TestEachRowOfTheTable(t *testing.T) {
	declining := at(settled, nearby, 16, 16, 70)
	declining.reprobe.peak, declining.reprobe.wait = 100, time.Hour
	farDeclining := declining
	farDeclining.waits, farDeclining.limit, farDeclining.best = away, 8, 8
	forgiven := declining
	forgiven.harmful = 20
	down := at(settled, nearby, 16, 16, 100)
	down.reprobe.down = true
	most := at(settled, nearby, 64, 64, 100)
	closed := at(growing, away, 32, 16, 100)
	closed.epoch.last = 95
	wide := closed
	wide.limit = 64
	rows := map[string]row{
		"near":           {at(measuring, nearby, 4, 4, 0), 100, 0, steady, growing, 8, 4, false, 0},
		"far, open":      {at(measuring, away, 16, 16, 100), 100, 0, full, growing, 24, 16, false, 0},
		"far, opening":   {at(measuring, away, 16, 16, 10), 100, s1, rising, growing, 64, 16, false, 0},
		"worth it":       {at(growing, nearby, 8, 4, 100), 150, 0, faster, growing, 16, 8, false, 0},
		"no faster":      {at(growing, nearby, 8, 4, 100), 100, s1, level, settled, 4, 4, false, 0},
		"no faster, far": {closed, 100, s1, level, settled, 16, 16, false, 0},
		"many more, far": {wide, 100, s1, lasting, settled, 64, 64, false, 0},
		"harm":           {at(growing, nearby, 8, 4, 100), 80, s1, slower, settled, 4, 4, false, 8},
		"ruin":           {at(growing, nearby, 16, 8, 100), 50, s1, ruinous, shrinking, 5, 8, true, 16},
		"no slower":      {at(shrinking, nearby, 24, 32, 100), 99, 0, level, shrinking, 16, 24, false, 0},
		"too few":        {at(shrinking, nearby, 24, 32, 100), 90, 0, slower, settled, 32, 32, false, 0},
		"decline":        {declining, 70, s1, declined, growing, 32, 16, false, 0},
		"decline, far":   {farDeclining, 70, s1, declined, growing, 32, 8, false, 0},
		"forgiven":       {forgiven, 70, s1, declined, growing, 32, 16, false, 0},
		"due":            {at(settled, nearby, 16, 16, 100), 100, s1, due, growing, 32, 16, false, 0},
		"due, in turn":   {down, 100, s1, due, shrinking, 10, 16, false, 0},
		"due, the most":  {most, 100, s1, due, shrinking, 42, 64, false, 0},
	}
	seen := make(map[[2]int]bool)
	for name, r := range rows {
		t.Run(name, r.run)
		seen[[2]int{int(r.before.phase), int(r.verdict)}] = true
	}
	for _, r := range rules {
		assert.True(t, seen[[2]int{int(r.phase), int(r.verdict)}], "phase %d, verdict %d", r.phase, r.verdict)
	}
	assert.Len(t, rules, len(seen), "none twice")
}

// From what is unclear nothing follows.
func TestAnUnclearEpochChangesNothing(t *testing.T) {
	early := at(growing, away, 32, 16, 100)
	early.epoch.last = 95
	waiting := at(settled, nearby, 16, 16, 100)
	waiting.reprobe.wait = time.Hour
	for name, r := range map[string]row{
		"windows open": {at(measuring, away, 16, 16, 10), 100, 0, unclear, measuring, 16, 16, false, 0},
		"open still":   {at(growing, away, 32, 16, 100), 500, time.Hour, unclear, growing, 32, 16, false, 0},
		"early":        {early, 50, 0, unclear, growing, 32, 16, false, 0},
		"left alone":   {waiting, 100, s1, unclear, settled, 16, 16, false, 0},
	} {
		t.Run(name, r.run)
	}
}
