package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// errTimeout is the end that --timeout sets.
var errTimeout = errors.New("--timeout is over")

// newRoot returns the command line.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "transfer COMMAND",
		Short: "Move models between directories and OCI, Docker or Ollama registries",
		Example: `  transfer demo
  transfer pull all-minilm ./all-minilm
  transfer push ./model registry.example/me/model:v1`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, // unknown commands come here
		RunE: func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		err = flagError(err)
		if cmd == root {
			return usagef("%v", err)
		}
		return usagef("%s: %v", cmd.Name(), err)
	})
	a.settings.add(root.PersistentFlags())
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }
	addCommands(a, root)
	setHelp(root)
	completeValues(root)
	return root
}

// addCommands adds the commands in the order in which they are listed.
func addCommands(a *app, root *cobra.Command) {
	cobra.EnableCommandSorting = false
	root.AddGroup(
		&cobra.Group{ID: "move", Title: "Move models:"},
		&cobra.Group{ID: "look", Title: "Ask a registry:"},
		&cobra.Group{ID: "keep", Title: "Look after directories:"},
		&cobra.Group{ID: "more", Title: "More:"},
	)
	root.AddCommand(
		pullCommand(a), pushCommand(a),
		copyCommand(a), tagCommand(a), attachCommand(a), deleteCommand(a), demoCommand(a),
		inspectCommand(a), tagsCommand(a), reposCommand(a), discoverCommand(a),
		loginCommand(a), logoutCommand(a),
		verifyCommand(a), pruneCommand(a), serveCommand(a),
		versionCommand(a), manCommand(),
		referenceTopic(), flagsTopic(),
	)
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("no command; there are %s", commandNames(cmd))
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q; there are %s", args[0], commandNames(cmd))
}

// commandNames lists all that can be run, also what the help leaves out: help itself, and man.
func commandNames(root *cobra.Command) string {
	var names []string
	for _, c := range root.Commands() {
		if (c.Runnable() || c.HasSubCommands()) && !strings.HasPrefix(c.Name(), "__") {
			names = append(names, c.Name())
		}
	}
	return strings.Join(names, ", ")
}

// prepare checks the shared flags and starts the clock of --timeout.
func (a *app) prepare(cmd *cobra.Command) error {
	if err := a.check(); err != nil {
		return err
	}
	if a.username != "" && a.getenv(passwordVariable) == "" && cmd.Name() != "login" {
		return usagef("--username needs a password in %s; to keep one, use transfer login", passwordVariable)
	}
	if a.timeout > 0 {
		ctx, stop := context.WithTimeoutCause(cmd.Context(), a.timeout, errTimeout)
		a.stop = stop
		cmd.SetContext(ctx)
	}
	return nil
}

// operands refuses command lines with another number of operands than these.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "no operands"
		if len(names) > 0 {
			want = strings.Join(names, " and ")
		}
		return usagef("%s takes %s", cmd.Name(), want)
	}
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", GroupID: "more", Args: operands(),
		Run: func(*cobra.Command, []string) {
			version, revision := buildVersion()
			if a.json {
				a.event("version", field{"version", version}, field{"revision", revision})
				return
			}
			fmt.Fprintln(a.stdout, versionText())
		},
	}
}

func versionText() string {
	version, revision := buildVersion()
	return strings.TrimSpace("transfer " + version + " " + revision)
}

// buildVersion returns what the Go toolchain has recorded about this program.
func buildVersion() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return strings.Trim(info.Main.Version, "()"), revision
}
