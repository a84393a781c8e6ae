package statemachine

import (
	"os"
	"path/filepath"
	"strings"
)

// damage does to a file what disks and people do. Blobs are only removed or replaced by a link: a final
// name is trusted.
func (m *machine) damage(d damage) {
	dest := filepath.Join(m.top, "dest")
	there := names(dest)
	if len(there) == 0 {
		return
	}
	name := there[d.Which%len(there)]
	path := filepath.Join(dest, name)
	fi, err := os.Lstat(path)
	_, final := m.contents[name]
	if err != nil || final && d.How != "remove" && d.How != "link" || !fi.Mode().IsRegular() {
		return
	}
	m.disturbed = true
	switch d.How {
	case "flip":
		m.change(path, d.At)
	case "cut":
		m.must(os.Truncate(path, int64(d.At)%(fi.Size()+1)))
	case "grow":
		m.must(os.Truncate(path, fi.Size()+int64(d.At)))
	case "empty":
		m.must(os.Truncate(path, 0))
	case "remove":
		m.must(os.Remove(path))
	case "rename to .tmp":
		m.must(os.Rename(path, filepath.Join(dest, strings.Split(name, ".")[0]+".tmp")))
	case "link":
		m.must(os.Remove(path))
		m.must(os.Symlink(filepath.Join(m.top, "victim"), path))
	}
}

// change flips a bit.
func (m *machine) change(path string, at int) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	m.must(err)
	defer f.Close()
	fi, err := f.Stat()
	m.must(err)
	if fi.Size() == 0 {
		return
	}
	var one [1]byte
	_, err = f.ReadAt(one[:], int64(at)%fi.Size())
	m.must(err)
	one[0] ^= 1
	_, err = f.WriteAt(one[:], int64(at)%fi.Size())
	m.must(err)
}
