package blobstore

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
)

// Waiting says how claims wait for another holder of their blob, and who is told.
type Waiting struct {
	// Patience is how long a claim waits for a holder that brings nothing. Zero means as long as the context
	// lasts.
	Patience time.Duration

	// Began is told of each claim that waits, GaveUp of each that waits no longer and writes a file of its
	// own. Nil means that nobody wants to know.
	Began, GaveUp func(digest.Digest)
}

// waiter is a claim that may have to wait.
type waiter struct {
	Waiting
	digest digest.Digest
	told   bool
	passed int          // names whose holders do not get on
	last   claimedError // what was seen of the holder that is waited for,
	since  time.Time    // and since when it has been like that
}

// claimedError tells that another has claimed a data file, and how that looks. It changes while the holder
// gets on, also for other processes: they write, or show in [dataFile.beat] that they do something else.
type claimedError struct {
	n             int // of the shared names
	data, journal version
}

func (claimedError) Error() string { return "another call or process has claimed the blob" }
func (claimedError) Unwrap() error { return filelock.ErrBusy }

// claimedBy describes what the holder of a shared name has written. It may be gone already.
func (d *folder) claimedBy(final string, n int) claimedError {
	look := func(name string) version {
		fi, err := d.root.Lstat(name)
		if err != nil {
			return version{}
		}
		return versionOf(fi)
	}
	data := dataName(final, n)
	return claimedError{n, look(data), look(journalName(data))}
}

// look notes how the holder looks now. It is passed over once it has looked like that for too long.
func (w *waiter) look(now claimedError) {
	if !w.told && w.Began != nil {
		w.Began(w.digest)
	}
	w.told = true
	switch {
	case now != w.last || w.since.IsZero():
		w.last, w.since = now, time.Now()
	case w.Patience > 0 && time.Since(w.since) >= w.Patience:
		w.passed, w.since = now.n+1, time.Time{}
		if w.GaveUp != nil {
			w.GaveUp(w.digest)
		}
	}
}

// Touch shows to those who wait for the partial that its holder gets on, though it brings no bytes of it now.
func (p *Partial) Touch() { p.data.beat() }

// beat changes the time of the file. It is best effort: where that cannot be, some process may do the same
// work twice.
func (f *dataFile) beat() {
	if f.keepsName() == nil {
		_ = f.folder.root.Chtimes(f.name, time.Time{}, time.Now())
	}
}

// beatEvery is how often the file shows that its holder waits for the disk.
const beatEvery = time.Second / 2

// beating shows that the holder gets on until the function that it returns is called.
func (f *dataFile) beating() (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f.beat()
			}
		}
	}()
	return func() { close(done); <-ended }
}

// doneMeanwhile makes the error of a claim whose blob was finished.
func (d *folder) doneMeanwhile(name string) error { return d.pathError("claim", name, ErrThere) }
