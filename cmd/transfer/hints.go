package main

// hint returns what to do about an error where that is known, or nothing.
func hint(error) string { return "" }
