package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

const passwordVariable = "TRANSFER_PASSWORD"

// settings are the flags that all commands have.
type settings struct {
	connection
	pace
	output
}

// connection says how a registry is reached.
type connection struct {
	caFile              string
	certFile, keyFile   string
	insecure, plainHTTP bool
	username            string
	timeout             time.Duration

	// usernameFor is the registry that --username is for, as that of the target of a copy. Empty means
	// whichever is asked.
	usernameFor string
}

// pace says how much is done at once, and for how long it is tried.
type pace struct {
	concurrency, bodyConcurrency int
	limitRate                    byteSize
	retryTimeout, stallTimeout   time.Duration
}

// output says what is printed.
type output struct {
	json, quiet, verbose bool
}

// add adds the flags that all commands have.
func (s *settings) add(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(&s.caFile, "ca-file", "", "also trust the certificates in this PEM `FILE`")
	fs.StringVar(&s.certFile, "cert", "", "show the registry the certificate in this PEM `FILE`")
	fs.StringVar(&s.keyFile, "key", "", "`FILE` with the key of --cert (default the same file)")
	fs.BoolVar(&s.insecure, "insecure", false, "do not check the registry's certificate")
	fs.BoolVar(&s.plainHTTP, "plain-http", false, "use http where the reference has no scheme")
	fs.StringVar(&s.username, "username", "", "log in as `NAME` with the password in "+passwordVariable)
	fs.DurationVar(&s.timeout, "timeout", 0, "end the command after this `TIME`, such as 10m")
	fs.DurationVar(
		&s.retryTimeout, "retry-timeout", 0, "give up after `TIME` without a new byte (default 5m)",
	)
	fs.DurationVar(&s.stallTimeout, "stall-timeout", 0, "try again after `TIME` without a byte (default 10s)")
	fs.IntVar(&s.concurrency, "concurrency", 0, "most requests at once: `N` (default 64 down, 32 up)")
	fs.IntVar(
		&s.bodyConcurrency, "body-concurrency", 0,
		"most bodies (blobs or pieces) at once: `N`, for weak links",
	)
	fs.Var(&s.limitRate, "limit-rate", "most bytes per second: `RATE`, such as 10M")
	fs.BoolVar(&s.json, "json", false, "print one JSON event a line")
	fs.BoolVarP(&s.quiet, "quiet", "q", false, "print nothing but errors and warnings")
	fs.BoolVarP(&s.verbose, "verbose", "v", false, "log each step to stderr")
}

// check refuses values that the library would take for its defaults.
func (s *settings) check() error {
	if s.keyFile != "" && s.certFile == "" {
		return usagef("--key is for --cert")
	}
	for flag, value := range map[string]int64{
		"concurrency": int64(s.concurrency), "body-concurrency": int64(s.bodyConcurrency),
		"timeout": int64(s.timeout), "retry-timeout": int64(s.retryTimeout),
		"stall-timeout": int64(s.stallTimeout),
	} {
		if value < 0 {
			return usagef("--%s is negative", flag)
		}
	}
	return nil
}

// logger returns what --verbose asks for, or nil.
func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// flagError says what a value of a flag is not, where package strconv or time says how it was parsed.
func flagError(err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	what := invalid.Unwrap().Error()
	switch invalid.GetFlag().Value.Type() {
	case "int", "uint64":
		what = "not a whole number such as 8"
		if errors.Is(invalid, strconv.ErrRange) {
			what = "too large, or too small"
		}
	case "duration":
		what = "not a time such as 30s, 5m or 1h30m"
	}
	return fmt.Errorf("--%s %q is %s", invalid.GetFlag().Name, invalid.GetValue(), what)
}

// byteSize is a flag with a number of bytes, written like 512, 10M, 1.5GiB.
type byteSize int64

var (
	_ pflag.Value = (*byteSize)(nil)

	errMalformedSize = errors.New("not a size such as 512, 10M or 1.5Gi")
)

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return strings.ReplaceAll(formatBytes(int64(*b)), " ", "")
}

// Type names the value in help texts.
func (b *byteSize) Type() string { return "size" }

// Set parses s. On failure b is unchanged.
func (b *byteSize) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return errMalformedSize
	}
	*b = byteSize(n)
	return nil
}

// formatBytes writes a number of bytes for people: 1.5 GB.
func formatBytes(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// urlList is a flag that takes a URL and may be given more than once.
type urlList []string

var (
	_ pflag.Value = (*urlList)(nil)

	errMalformedURL = errors.New("not a URL such as https://mirror.example")
)

func (l *urlList) String() string { return strings.Join(*l, ",") }

// Type names the value in help texts.
func (l *urlList) Type() string { return "url" }

// Set adds s. On failure l is unchanged.
func (l *urlList) Set(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errMalformedURL
	}
	*l = append(*l, s)
	return nil
}

// plural writes a count with its noun: 1 blob, 2 blobs, 3 directories.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		noun = stem + "ie"
	}
	return fmt.Sprintf("%s %ss", humanize.Comma(int64(n)), noun)
}

// twoCounts writes two counts with their nouns, of which the second is left out where there are none.
func twoCounts(n int, noun string, m int, other string) string {
	switch {
	case m == 0:
		return plural(n, noun)
	case n == 0:
		return plural(m, other)
	}
	return plural(n, noun) + " and " + plural(m, other)
}
