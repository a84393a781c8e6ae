package unpack

import (
	"context"
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

	// beatEvery is how often a holder shows that it lives, by the time of the file, and lookEvery how often
	// those who wait look.
	beatEvery = time.Second
	lookEvery = 100 * time.Millisecond

	// lockPatience is how long a holder is waited for that does not show it, as a process that was stopped.
	lockPatience = 15 * time.Second

	// mostGone is how often the directory of the lock may vanish before it is thought to lead nowhere, as a
	// link.
	mostGone = 100
)

// errStale is a lock on a file that has lost its name meanwhile: others lock another.
var errStale = errors.New("the lock was removed")

// errForeign is a lock of another user, who could hold it for as long as he likes.
var errForeign = errors.New("the lock is another user's")

// Lock keeps a directory for one pull at a time: the next one finds all that this one has placed, and does
// not fetch it again. What is part of the name of the lock where models do not share their places; it may be
// empty. Waiting is called once where another has the lock. Where no lock can be had, or its holder does not
// live, it goes without: blobs have locks of their own. The error is that of the context.
func Lock(ctx context.Context, dir, what string, waiting func()) (unlock func(), err error) {
	name := lockName
	if what != "" {
		name += "-" + what
	}
	var last time.Time
	var silent time.Duration // as far as we have looked: who was stopped has not
	for told, gone := false, 0; ; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l, beat, err := tryLock(dir, name)
		switch {
		case err == nil:
			return l.hold(), nil
		case errors.Is(err, errStale):
			continue
		case errors.Is(err, fs.ErrNotExist) && gone < mostGone:
			gone++ // who has released the lock has removed its directory meanwhile
			continue
		case !errors.Is(err, filelock.ErrBusy):
			return func() {}, nil
		case !beat.Equal(last):
			last, silent = beat, 0
		case silent >= lockPatience:
			return func() {}, nil
		}
		silent += lookEvery
		if !told {
			told = true
			waiting()
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// LockOne keeps one of several models of a directory, which come at the same time. It waits for who has all
// of them.
func LockOne(ctx context.Context, dir, model string, waiting func()) (unlock func(), err error) {
	all, err := Lock(ctx, dir, "", waiting)
	if err != nil {
		return nil, err
	}
	defer all() // who waits for all of them has it meanwhile
	return Lock(ctx, dir, model, waiting)
}

// LockAll keeps a directory with all of its models, whether they share their places or not.
func LockAll(ctx context.Context, dir string, waiting func()) (unlock func(), err error) {
	unlock, err = Lock(ctx, dir, "", waiting)
	if err != nil {
		return nil, err
	}
	entries, _ := os.ReadDir(filepath.Join(dir, names.StateDir)) // without it nobody has a lock
	for _, e := range entries {
		model, isLock := strings.CutPrefix(e.Name(), lockName+"-")
		if !isLock {
			continue
		}
		ended, err := Lock(ctx, dir, model, waiting)
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

// tryLock takes the lock, or says when its holder has shown last that it lives.
func tryLock(dir, name string) (l *dirLock, beat time.Time, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, beat, err
	}
	l = &dirLock{name: name}
	if l.root, err = rootfile.OpenDir(dir); err != nil {
		return nil, beat, err
	}
	if l.stage, err = openDir(l.root, names.StateDir); err == nil {
		l.file, err = openLock(l.stage, name)
	}
	if err == nil {
		err = filelock.Lock(l.file)
	}
	if info, statErr := l.stat(); statErr == nil {
		beat = info.ModTime()
	}
	if err == nil && !l.named() {
		err = errStale
	}
	if err != nil {
		l.close()
		return nil, beat, err
	}
	return l, beat, nil
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

// hold shows that the holder lives until the lock is released.
func (l *dirLock) hold() (unlock func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
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
