package push

import "slices"

var placeNames = map[string]place{
	"choosing": choosing, "probing": probing, "mounting": mounting, "restoring": restoring,
	"opening": opening, "confirming": confirming, "recovering": recovering,
	"whole": whole, "chunks": chunks, "direct": direct, "parts": parts,
}

// TakeOut takes a place out of a row of the table, until it is put back.
func TakeOut(row int, name string) (putBack func()) {
	all := table
	table = slices.Clone(all)
	table[row].at &^= placeNames[name]
	return func() { table = all }
}
