package statemachine

import (
	"io"
	"os"
	"path/filepath"
)

// killed are the directories that a killed process leaves.
var killed = []string{"dest", "cache"}

// snapshot copies what is on the disk. It is called when all goroutines of the bubble wait, so that it
// is what a kill at this moment would leave.
func (m *machine) snapshot() {
	for _, name := range killed {
		m.must(copyDir(filepath.Join(m.top, name), filepath.Join(m.aside, name)))
	}
}

// restore puts what was copied in the place of what the calls have done since.
func (m *machine) restore() {
	for _, name := range killed {
		dir, copied := filepath.Join(m.top, name), filepath.Join(m.aside, name)
		m.must(empty(dir))
		m.must(copyDir(copied, dir))
		m.must(os.RemoveAll(copied))
	}
}

// empty removes what is in a directory, which may be a mount point.
func empty(dir string) error {
	for _, name := range names(dir) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyDir copies files with their times, links and directories.
func copyDir(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range names(from) {
		if err := copyOne(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyOne(from, to string) error {
	fi, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case fi.IsDir():
		return copyDir(from, to)
	case fi.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := copyFile(from, to); err != nil {
		return err
	}
	return os.Chtimes(to, fi.ModTime(), fi.ModTime())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
