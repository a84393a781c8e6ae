// Command transfer pulls models from a registry, pushes them to one, and looks after what it has pulled.
//
// root.go lists the commands. Each has a function that makes its cobra.Command, such as pullCommand, and one
// that does what it says with package model or package registry. What they share:
//
//	flags.go, limits.go    the flags of all commands, and of several
//	reference.go           operands that name a model, a repository or a registry
//	remote.go              clients of package registry
//	identities.go          as whom a registry is asked: flags, the environment, log-ins that are kept
//	job.go                 a call of package model, which tells follow.go and notes.go how it gets on
//	internal/progress      the bar, the lines or the events of that
//	report.go, dryrun.go   results, as lines for people or as events of --json
//	hints.go               what to do about an error
//	help.go, man.go        help texts and manual pages
//
// All that is printed goes through internal/printable: names and messages may come from strangers.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/modeltransfer/transfer/cmd/transfer/internal/printable"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // what a shell reports for a program that SIGINT ended
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	proxyForAll(os.Getenv, os.Setenv)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// proxyForAll uses ALL_PROXY, which other programs know and net/http does not, for the proxies that are not
// named. It may be one of SOCKS.
func proxyForAll(getenv func(string) string, setenv func(name, value string) error) {
	all := cmp.Or(getenv("ALL_PROXY"), getenv("all_proxy"))
	if rest, ok := strings.CutPrefix(all, "socks://"); ok {
		all = "socks5://" + rest
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		if all != "" && getenv(name) == "" && getenv(strings.ToLower(name)) == "" {
			_ = setenv(name, all) // a name like this can be set
		}
	}
}

// app is the world as a command sees it.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	settings

	asked
	who identities // as whom each registry is asked, for hints

	// source is the directory of blobs that is pushed, for hints.
	source string

	// terminal says that stdout is one.
	terminal bool

	// stop ends the clock of --timeout.
	stop context.CancelFunc

	// goesOn says that the command goes on where it was when it is run again.
	goesOn bool
}

// asked says which registry and repository were asked last, for hints.
type asked struct {
	host       string
	repository ref.Reference
}

// asking remembers where a command goes. A command may ask two registries, and fails at the last.
func (last *asked) asking(r ref.Reference) { last.host, last.repository = r.Registry(), r }

// usageError is a command line that cannot be understood.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// run does what the arguments say and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	out := &checkedWriter{w: a.stdout}
	a.terminal, a.stdout = isTerminal(a.stdout), out
	root := newRoot(a)
	root.SetArgs(doubleDashes(args))
	a.stop = func() {}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = out.failed()
	}
	if err != nil && cmd.Context() != nil && context.Cause(cmd.Context()) == errTimeout {
		err = errors.Join(errTimeout, err)
	}
	a.stop()
	a.goesOn = continues(cmd)
	return a.explain(ctx, err)
}

// doubleDashes spells -help as --help, which pflag would take for -h -e -l -p.
func doubleDashes(args []string) []string {
	spelled := make([]string, len(args))
	for i, arg := range args {
		if arg == "-help" {
			arg = "--help"
		}
		spelled[i] = arg
	}
	return spelled
}

// explain tells why a command failed, and what to do, and returns the exit code.
func (a *app) explain(ctx context.Context, err error) int {
	var usage *usageError
	next := ""
	switch {
	case errors.Is(err, errNothingKept):
		next = "; " + errNothingKept.Error()
	case a.goesOn:
		next = "; run the same command again to continue"
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		a.fail(oneLine(err)+" (see: transfer help)", "")
		return exitUsage
	case ctx.Err() != nil:
		if isTerminal(a.stderr) {
			fmt.Fprint(a.stderr, "\r") // before the ^C that it shows
		}
		a.fail("interrupted"+next, "")
		return exitInterrupted
	case errors.Is(err, errTimeout):
		a.fail(errTimeout.Error()+next, "")
		return exitFailed
	default:
		a.fail(adviser{a}.advise(err))
		return exitFailed
	}
}

// continues tells whether a command that has ended in its middle goes on there. The others start anew.
func continues(cmd *cobra.Command) bool {
	switch cmd.Name() {
	case "pull", "push", "copy", "attach":
		return !cmd.Flags().Changed("dry-run")
	case "verify":
		return cmd.Flags().Changed("from")
	case "demo":
		return cmd.Flags().Changed("dir") // it removes its own
	}
	return false
}

// fail prints the last line of a command that failed and, below it, what to do. With --json it is
// an event too; stderr gets it in any case, because stdout may be what has failed.
func (a *app) fail(message, advice string) {
	message, advice = printable.Text(message), printable.Text(advice)
	if a.json {
		a.event("error", field{"error", message}, field{"hint", advice})
	}
	fmt.Fprintf(a.stderr, "transfer: %s\n", message)
	if advice != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", advice)
	}
}

// oneLine is the message of an error without what could play tricks on a
// terminal: part of it may come from a server.
func oneLine(err error) string { return printable.Text(err.Error()) }

// checkedWriter remembers the first write that failed: results that did not arrive are a failure.
// It tells nobody else, or the same failure would be told twice.
type checkedWriter struct {
	mu  sync.Mutex // guards the fields that follow
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		_, c.err = c.w.Write(p)
	}
	return len(p), nil
}

func (c *checkedWriter) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil
	}
	return &outputError{c.err}
}

// outputError is a result that could not be written to stdout.
type outputError struct{ err error }

func (e *outputError) Error() string { return "writing the result: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }
