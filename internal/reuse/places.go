package reuse

import "github.com/modeltransfer/transfer/internal/tensorfile"

const (
	// maxSourceTensors bounds the memory that the tables of all sources take. Sources beyond it are not used.
	maxSourceTensors = 1 << 18

	// A tensor that has another name now is looked for among nearbyPlaces of each source, at most maxPlaces
	// in all, fewer in a file of many: maxAllPlaces bounds the memory that these take.
	nearbyPlaces = 16
	maxPlaces    = 64
	leastPlaces  = 4
	maxAllPlaces = 1 << 21
)

// place is where the bytes of a tensor may be.
type place struct {
	source int
	from   int64
	size   int64 // so many of them
}

// search looks for the tensors of a file in sources.
type search struct {
	tensors []tensor
	most    int             // places for a tensor
	byName  map[string]int  // tensors
	byLen   map[int64][]int // tensors, in their order
}

// findPlaces gives each tensor its places: first what has the same name, type and shape, then what has the
// same size, in the order of how near it is among all of that size.
func findPlaces(tensors []tensor, sources []Source) {
	s := search{
		tensors: tensors, most: min(max(maxAllPlaces/len(tensors), leastPlaces), maxPlaces),
		byName: make(map[string]int, len(tensors)), byLen: make(map[int64][]int),
	}
	for i, t := range tensors {
		s.byName[t.Name] = i
		s.byLen[t.Len()] = append(s.byLen[t.Len()], i)
	}
	var tables [][]tensorfile.Tensor
	for total, i := 0, 0; i < len(sources); i++ {
		table := sources[i].Tensors()
		if total += len(table); total > maxSourceTensors {
			break
		}
		tables = append(tables, table)
	}
	for i, table := range tables {
		s.addNamesakes(i, table)
	}
	for i, table := range tables {
		s.addNearby(i, table)
	}
}

func (s *search) addNamesakes(source int, table []tensorfile.Tensor) {
	for _, x := range table {
		if i, ok := s.byName[x.Name]; ok && s.tensors[i].Kind == x.Kind {
			s.add(i, place{source, x.Start, min(x.Len(), s.tensors[i].Len())})
		}
	}
}

func (s *search) addNearby(source int, table []tensorfile.Tensor) {
	alike := make(map[int64][]int64) // where tensors of a size begin
	for _, x := range table {
		if _, ok := s.byLen[x.Len()]; ok {
			alike[x.Len()] = append(alike[x.Len()], x.Start)
		}
	}
	for size, starts := range alike {
		for order, i := range s.byLen[size] {
			for n := range nearbyPlaces {
				at := order + (n+1)/2*(1-n%2*2) // 0, -1, 1, -2, 2 …
				if at >= 0 && at < len(starts) {
					s.add(i, place{source, starts[at], size})
				}
			}
		}
	}
}

// add adds a place that the tensor does not have yet.
func (s *search) add(i int, p place) {
	t := &s.tensors[i]
	if len(t.places) == s.most {
		return
	}
	for _, o := range t.places {
		if o.source == p.source && o.from == p.from {
			return
		}
	}
	t.places = append(t.places, p)
}
