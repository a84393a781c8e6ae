package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// maxPassword is the longest password that is read. Tokens of some KiB serve as passwords.
const maxPassword = 64 << 10 // 64 KiB

func loginCommand(a *app) *cobra.Command {
	var fromStdin bool
	c := &cobra.Command{
		Use: "login REGISTRY", Short: "Keep the name and password for a registry", GroupID: "look",
		Long: "Login checks a name and a password with a registry and keeps them where Docker, oras and " +
			"crane do too: in ~/.docker/config.json or the credential store that it names.",
		Example: "  transfer login registry.example\n" +
			"  echo \"$TOKEN\" | transfer login --username me --password-stdin docker.io",
		Args: operands("REGISTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return authenticator{a}.login(cmd.Context(), args[0], fromStdin)
		},
	}
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from stdin")
	return c
}

func logoutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "logout REGISTRY", Short: "Forget the name and password for a registry", GroupID: "look",
		Example: "  transfer logout registry.example", Args: operands("REGISTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.registryOf(args[0])
			if err != nil {
				return err
			}
			return authenticator{a}.logout(cmd.Context(), r)
		},
	}
}

// authenticator logs in and out.
type authenticator struct{ *app }

// logout forgets what is kept for a registry. It leaves alone what podman keeps, and says how to remove that.
func (a authenticator) logout(ctx context.Context, r ref.Reference) error {
	files := a.logins(r.Registry())
	where, err := files.Delete(ctx, r.Host)
	switch {
	case errors.Is(err, credentials.ErrNone):
		err = fmt.Errorf("%s: %w", r.Registry(), credentials.ErrNone)
	case err == nil && a.json:
		a.event("logout", field{"registry", r.Host}, field{"from", where})
	case err == nil:
		a.say("forgot the credentials for %s that were in %s", r.Registry(), where)
	}
	for _, p := range files.Podman(r.Host) {
		a.warn(fmt.Sprintf("podman keeps a log-in to %s, which is used here too; remove it with: "+
			"podman logout --authfile %s %[1]s", p.Name, p.Path))
	}
	return err
}

func (a authenticator) login(ctx context.Context, text string, fromStdin bool) error {
	r, err := a.registryOf(text)
	if err != nil {
		return err
	}
	who, err := a.askCredentials(ctx, r, fromStdin)
	if err != nil {
		return err
	}
	a.who.set(r.Registry(), who.Username)
	if err := a.tryLogin(ctx, r, who); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	where, err := a.logins(r.Registry()).Put(ctx, r.Host, who)
	if err != nil {
		return err
	}
	if a.json {
		a.event("login", field{"registry", r.Host}, field{"username", who.Username}, field{"in", where})
	}
	a.say("logged in to %s as %s; the password is kept in %s", r.Registry(), who.Username, where)
	return nil
}

// askCredentials gets the name and the password from the flags, the environment or a person.
func (a authenticator) askCredentials(
	ctx context.Context, r ref.Reference, fromStdin bool,
) (registry.Credentials, error) {
	c := registry.Credentials{Username: a.username, Password: a.getenv(passwordVariable)}
	switch terminal, ok := a.stdin.(*os.File); {
	case fromStdin && c.Username == "":
		return c, usagef("--password-stdin needs --username")
	case fromStdin:
		data, err := awaited(ctx, func() ([]byte, error) {
			return io.ReadAll(io.LimitReader(a.stdin, maxPassword))
		})
		c.Password = strings.TrimRight(string(data), "\r\n")
		if err == nil && c.Password == "" {
			err = usagef("there is no password on stdin")
		}
		return c, err
	case c.Username != "" && c.Password != "":
		return c, nil
	case ok && term.IsTerminal(int(terminal.Fd())):
		return a.askPerson(ctx, r, terminal)
	}
	return c, usagef("there is no terminal to ask for the password; use --username and " +
		"--password-stdin, or " + passwordVariable)
}

// askPerson asks a person for the password, and for the name where --username does not say it.
func (a authenticator) askPerson(
	ctx context.Context, r ref.Reference, terminal *os.File,
) (registry.Credentials, error) {
	c := registry.Credentials{Username: a.username}
	if c.Username == "" {
		fmt.Fprintf(a.stderr, "Name for %s: ", r.Registry())
		name, err := a.ask(ctx, terminal, readLine)
		if !strings.HasSuffix(string(name), "\n") {
			fmt.Fprintln(a.stderr) // what follows has a line of its own
		}
		if c.Username = strings.TrimSpace(string(name)); c.Username == "" {
			return c, cmp.Or(err, usagef("there is no name to log in with"))
		}
	}
	fmt.Fprintf(a.stderr, "Password: ")
	password, err := a.ask(
		ctx, terminal, func(f *os.File) ([]byte, error) { return term.ReadPassword(int(f.Fd())) },
	)
	fmt.Fprintln(a.stderr)
	if c.Password = string(password); c.Password == "" {
		return c, cmp.Or(err, usagef("there is no password to log in with"))
	}
	return c, err
}

// ask reads an answer from a terminal, empty where a person ends it (Ctrl-D). When the context ends first, it
// leaves the terminal as it was.
func (a authenticator) ask(
	ctx context.Context, terminal *os.File, read func(*os.File) ([]byte, error),
) ([]byte, error) {
	state, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return nil, err
	}
	answer, err := awaited(ctx, func() ([]byte, error) { return read(terminal) })
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if ctx.Err() != nil {
		err = errors.Join(err, term.Restore(int(terminal.Fd()), state))
	}
	return answer, err
}

// awaited reads what somebody types, or until the context ends.
func awaited(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() { // a read of a terminal or a pipe cannot be ended; the process ends soon
		answer, err := read()
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func readLine(f *os.File) ([]byte, error) { return bufio.NewReader(f).ReadBytes('\n') }

// tryLogin asks the registry, with the credentials and for no repository, whether it lets us in.
func (a authenticator) tryLogin(ctx context.Context, r ref.Reference, who registry.Credentials) error {
	a.warnOfHTTP(r)
	r.Repository = "library/_" // a repository must have a name
	asked := false
	repo, err := openRepository(a.app, r, registry.Options{
		GetCredentials: func(context.Context) (registry.Credentials, error) {
			asked = true
			return who, nil
		},
	})
	if err != nil {
		return err
	}
	defer repo.CloseIdleConnections()
	if err := repo.Ping(ctx); err != nil {
		return err
	}
	if !asked {
		a.warn(r.Registry() + " asks nobody to log in, so it has not checked the name and the password")
	}
	return nil
}
