package push

import "slices"

// Rows is how many rows the table has.
func Rows() int { return len(table) }

// TakeOut takes a row out of the table, until it is put back.
func TakeOut(row int) (putBack func()) {
	all := table
	table = slices.Delete(slices.Clone(all), row, row+1)
	return func() { table = all }
}
