package names

import (
	"fmt"
	"path"
	"strings"
)

// Set has the paths of a directory, to find those that cannot be there together: two files of one name, a
// file and a directory, something below a file or a link.
type Set struct {
	// Folding takes names for one that a file system of macOS or Windows does.
	Folding bool

	taken map[string]place
	size  int
}

type place struct {
	name  string
	dir   bool
	owner string
}

// Add adds a file or link, or a directory. The directories above it are added too. The error is [ErrName].
func (s *Set) Add(name string, dir bool) error { return s.AddOf("", name, dir) }

// Own adds a directory that has nothing but what is added as its owner's, the name being the owner's.
func (s *Set) Own(name string) error {
	if first, ok := s.taken[s.key(name)]; ok {
		return fmt.Errorf("%w: %.200q and %.200q would have one place", ErrName, first.name, name)
	}
	return s.AddOf(name, name, true)
}

// AddOf is Add of an owner.
func (s *Set) AddOf(owner, name string, dir bool) error {
	if s.taken == nil {
		s.taken = map[string]place{}
	}
	if err := s.addAbove(owner, name); err != nil {
		return err
	}
	first, ok := s.taken[s.key(name)]
	switch {
	case !ok:
		s.take(place{name, dir, owner})
	case !first.dir || !dir || first.owner != owner:
		return fmt.Errorf("%w: %.200q and %.200q would have one place", ErrName, first.name, name)
	}
	return nil
}

func (s *Set) addAbove(owner, name string) error {
	for above := path.Dir(name); above != "."; above = path.Dir(above) {
		first, ok := s.taken[s.key(above)]
		switch {
		case !ok:
			s.take(place{above, true, inside(owner, above)})
			continue
		case !first.dir:
			return fmt.Errorf("%w: %.200q is a file, and %.200q would be below it", ErrName, first.name, name)
		case first.owner != "" && first.owner != owner:
			return fmt.Errorf("%w: %.200q has a place in the archive %.200q", ErrName, name, first.name)
		}
		return nil // and so are those above it
	}
	return nil
}

// inside returns an owner where a directory is in the owner's.
func inside(owner, dir string) string {
	if owner != "" && strings.HasPrefix(dir, owner+"/") {
		return owner
	}
	return ""
}

func (s *Set) take(p place) {
	s.taken[s.key(p.name)] = p
	s.size += len(p.name)
}

// Keep counts bytes that are kept beside a path, such as the target of a link.
func (s *Set) Keep(n int) { s.size += n }

// Size is how many bytes the paths have, and what is kept beside them.
func (s *Set) Size() int { return s.size }

// Len is how many paths there are, with the directories above files.
func (s *Set) Len() int { return len(s.taken) }

func (s *Set) key(name string) string {
	if s.Folding {
		return Fold(name)
	}
	return name
}
