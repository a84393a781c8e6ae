// Package storm proves by failing system calls and killed processes that a download never leaves a
// wrong file.
package storm
