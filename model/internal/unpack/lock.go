package unpack

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
)

const (
	lockName = "lock"

	// beatEvery is how often a holder shows that it lives, by the time of the file, and that it gets on, by
	// its size, and lookEvery how often those who wait look.
	beatEvery = time.Second
	lookEvery = 100 * time.Millisecond

	// lockPatience is how long a holder is waited for that does not show it, as a process that was stopped.
	lockPatience = 15 * time.Second

	// leastPatience is how long a holder is waited for at least that does not show that it gets on.
	leastPatience = 3 * beatEvery

	// mostSize is the largest size of the file.
	mostSize = 1 << 10 // 1 KiB

	// mostGone is how often the directory of the lock may vanish before it is thought to lead nowhere, as a
	// link.
	mostGone = 100
)

// errStale is a lock on a file that has lost its name meanwhile: others lock another.
var errStale = errors.New("the lock was removed")

// errForeign is a lock of another user, who could hold it for as long as he likes.
var errForeign = errors.New("the lock is another user's")

// Turn says how a lock is waited for, and how its holder is seen.
type Turn struct {
	// Waiting is called once where another has the lock.
	Waiting func()

	// Patience is how long a holder is waited for that lives, but does not get on. Zero means as long as it
	// lives.
	Patience time.Duration

	// GaveUp is called where a holder is not waited for any longer. Nil means that nobody wants to know.
	GaveUp func()

	// GetsOn tells whether the holder gets on. Nil means that it always does.
	GetsOn func() bool
}

// Lock keeps a directory for one pull at a time: the next one finds all that this one has placed, and does
// not fetch it again. What is part of the name of the lock where models do not share their places; it may be
// empty. Where no lock can be had, or its holder does not live or get on, it goes without: blobs have locks
// of their own. The error is that of the context.
func Lock(ctx context.Context, dir, what string, turn Turn) (unlock func(), err error) {
	name := lockName
	if what != "" {
		name += "-" + what
	}
	var holder watched
	for told, gone := false, 0; ; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l, now, err := tryLock(dir, name)
		switch {
		case err == nil:
			return l.hold(turn.GetsOn), nil
		case errors.Is(err, errStale):
			continue
		case errors.Is(err, fs.ErrNotExist) && gone < mostGone:
			gone++ // who has released the lock has removed its directory meanwhile
			continue
		case !errors.Is(err, filelock.ErrBusy):
			return func() {}, nil
		case holder.givenUp(now, turn.Patience):
			if turn.GaveUp != nil {
				turn.GaveUp()
			}
			return func() {}, nil
		}
		if !told {
			told = true
			turn.Waiting()
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// sign is how a holder shows that it lives and gets on.
type sign struct {
	beat time.Time
	size int64
}

// watched is a holder that is waited for.
type watched struct {
	last          sign
	silent, stuck time.Duration // as far as we have looked: who was stopped has not
}

// givenUp tells whether the holder is not waited for any longer.
func (w *watched) givenUp(now sign, patience time.Duration) bool {
	if !now.beat.Equal(w.last.beat) {
		w.silent = 0
	}
	if now.size != w.last.size {
		w.stuck = 0
	}
	w.last = now
	if w.silent >= lockPatience || patience > 0 && w.stuck >= max(patience, leastPatience) {
		return true
	}
	w.silent, w.stuck = w.silent+lookEvery, w.stuck+lookEvery
	return false
}

// LockOne keeps one of several models of a directory, which come at the same time. It waits for who has all
// of them. Who waits for one model has a lock of its own meanwhile: whoever wants all of them waits for that
// too, and other models for neither.
func LockOne(ctx context.Context, dir, model string, turn Turn) (unlock func(), err error) {
	all, err := Lock(ctx, dir, "", turn)
	if err != nil {
		return nil, err
	}
	own, err := Lock(ctx, dir, model+"-"+rand.Text(), Turn{Waiting: turn.Waiting})
	all()
	if err != nil {
		return nil, err
	}
	one, err := Lock(ctx, dir, model, turn)
	if err != nil {
		own()
		return nil, err
	}
	return func() { one(); own() }, nil
}

// LockAll keeps a directory with all of its models, whether they share their places or not.
func LockAll(ctx context.Context, dir string, turn Turn) (unlock func(), err error) {
	unlock, err = Lock(ctx, dir, "", turn)
	if err != nil {
		return nil, err
	}
	entries, _ := os.ReadDir(filepath.Join(dir, names.StateDir)) // without it nobody has a lock
	for _, e := range entries {
		model, isLock := strings.CutPrefix(e.Name(), lockName+"-")
		if !isLock {
			continue
		}
		ended, err := Lock(ctx, dir, model, turn)
		if err != nil {
			unlock()
			return nil, err
		}
		ended() // another one of it waits for us
	}
	return unlock, nil
}

// dirLock is a lock that is held.
type dirLock struct {
	root, stage *os.Root
	file        *os.File
	name        string
}

// tryLock takes the lock, or says how its holder looks.
func tryLock(dir, name string) (l *dirLock, now sign, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, now, err
	}
	l = &dirLock{name: name}
	if l.root, err = rootfile.OpenDir(dir); err != nil {
		return nil, now, err
	}
	if l.stage, err = openDir(l.root, names.StateDir); err == nil {
		l.file, err = openLock(l.stage, name)
	}
	if err == nil {
		err = filelock.Lock(l.file)
	}
	if info, statErr := l.stat(); statErr == nil {
		now = sign{info.ModTime(), info.Size()}
	}
	if err == nil && !l.named() {
		err = errStale
	}
	if err != nil {
		l.close()
		return nil, now, err
	}
	return l, now, nil
}

func openLock(stage *os.Root, name string) (*os.File, error) {
	f, err := rootfile.Create(stage, name, 0o666)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	f, err = rootfile.Open(stage, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, rootfile.ErrReplaced) {
		err = errStale
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !rootfile.IsOwn(info) {
		return nil, errors.Join(errForeign, err, f.Close())
	}
	return f, nil
}

func (l *dirLock) stat() (os.FileInfo, error) {
	if l.file == nil {
		return nil, os.ErrInvalid
	}
	return l.file.Stat()
}

// named tells whether the file that is locked still has its name.
func (l *dirLock) named() bool {
	info, err := l.stat()
	there, otherErr := l.stage.Lstat(l.name)
	return err == nil && otherErr == nil && os.SameFile(info, there)
}

// hold shows that the holder lives, and gets on, until the lock is released.
func (l *dirLock) hold(getsOn func() bool) (unlock func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for size := int64(1); ; {
			select {
			case now := <-tick.C:
				if getsOn == nil || getsOn() {
					_ = l.file.Truncate(size)
					size = (size + 1) % mostSize
				}
				_ = l.stage.Chtimes(l.name, time.Time{}, now) // else others take us for dead, and fetch twice
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		l.remove()
		l.close()
	}
}

// remove removes the file and, where nothing else is in it, the directory. Those who have the file open find
// out that it has lost its name.
func (l *dirLock) remove() {
	if l.named() {
		_ = l.stage.Remove(l.name)
	}
	if realDir(l.root, names.StateDir) == nil {
		_ = l.root.Remove(names.StateDir) // fails where something is in it
	}
}

func (l *dirLock) close() {
	if l.file != nil {
		_ = l.file.Close() // nothing was written
	}
	if l.stage != nil {
		_ = l.stage.Close()
	}
	_ = l.root.Close()
}
