package main

import (
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// settings are the flags that all commands have.
type settings struct {
	concurrency    int
	limitRate      byteSize
	username       string
	verbose, quiet bool
}

// newFlags returns the flags of a command, and where the shared ones go.
func newFlags(command string) (*flag.FlagSet, *settings) {
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	s := new(settings)
	fs.IntVar(&s.concurrency, "concurrency", 0, "")
	fs.Var(&s.limitRate, "limit-rate", "")
	fs.StringVar(&s.username, "username", "", "")
	fs.BoolVar(&s.verbose, "verbose", false, "")
	fs.BoolVar(&s.quiet, "quiet", false, "")
	return fs, s
}

// parse reads the flags, which may stand before, between and after the
// operands, and returns the operands.
func (a *app) parse(fs *flag.FlagSet, s *settings, args []string, operands ...string) ([]string, error) {
	var found []string
	for {
		if err := fs.Parse(args); err != nil {
			if err == flag.ErrHelp {
				return nil, err
			}
			return nil, usagef("%s: %v", fs.Name(), err)
		}
		if fs.NArg() == 0 {
			break
		}
		found = append(found, fs.Arg(0))
		args = fs.Args()[1:]
	}
	if len(found) != len(operands) {
		return nil, usagef("%s takes %s", fs.Name(), operandText(operands))
	}
	return found, a.check(s)
}

func operandText(operands []string) string {
	if len(operands) == 0 {
		return "no operands"
	}
	return strings.Join(operands, " and ")
}

func (a *app) check(s *settings) error {
	switch {
	case s.concurrency < 0:
		return usagef("--concurrency is negative")
	case s.username != "" && a.getenv(passwordVariable) == "":
		return usagef("--username needs a password in %s", passwordVariable)
	}
	return nil
}

// logger returns what --verbose asks for, or nil.
func (a *app) logger(s *settings) *slog.Logger {
	if !s.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// urlList is a flag that takes a URL and may be given more than once.
type urlList []string

var (
	_ flag.Value = (*urlList)(nil)

	errMalformedURL = errors.New("not a URL such as https://mirror.example")
)

func (l *urlList) String() string { return strings.Join(*l, ",") }

// Set adds s. On failure l is unchanged.
func (l *urlList) Set(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errMalformedURL
	}
	*l = append(*l, s)
	return nil
}
