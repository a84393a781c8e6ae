// Command transfer pulls models from a registry and pushes them to one, and has
// a demonstration that needs neither.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"
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
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// app is the world as a command sees it.
type app struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

// usageError is a command line that cannot be understood.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// run does what the arguments say and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	a := &app{stdout: stdout, stderr: stderr, getenv: getenv}
	err := a.dispatch(ctx, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageText)
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "transfer: %s (see: transfer help)\n", oneLine(err))
		return exitUsage
	case ctx.Err() != nil:
		next := "run the same command again to continue"
		if errors.Is(err, errNothingKept) {
			next = errNothingKept.Error()
		}
		fmt.Fprintf(stderr, "transfer: interrupted; %s\n", next)
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "transfer: %s\n", oneLine(err))
		return exitFailed
	}
}

func (a *app) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usagef("no command; there are demo, pull, push and help")
	}
	switch command, rest := args[0], args[1:]; command {
	case "demo":
		return a.demo(ctx, rest)
	case "pull":
		return a.pull(ctx, rest)
	case "push":
		return a.push(ctx, rest)
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	default:
		return usagef("unknown command %q; there are demo, pull, push and help", command)
	}
}

// oneLine is the message of an error without what could play tricks on a
// terminal: part of it may come from a server.
func oneLine(err error) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, err.Error())
}
