package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes manual pages. It is for packagers, and so not in the help.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man [DIR]", Short: "Write the manual page, or one for each command into DIR", Hidden: true,
		Long:    "Man writes the manual page to stdout or, with DIR, a page for each command into it.",
		Example: "  transfer man | man -l -\n  transfer man /usr/local/share/man/man1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("man takes [DIR]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return writePages(manCommands(cmd.Root()), args[0])
			}
			for _, c := range manCommands(cmd.Root()) {
				if _, err := io.WriteString(cmd.OutOrStdout(), manPage(c)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// manCommands lists the commands that have a page: the program first.
func manCommands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c)
		}
	}
	return all
}

// writePages writes a page for each command into a directory.
func writePages(commands []*cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, c := range commands {
		path := filepath.Join(dir, manName(c)+".1")
		if err := os.WriteFile(path, []byte(manPage(c)), 0o666); err != nil {
			return err
		}
	}
	return nil
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is the page of a command in the language of man(7).
func manPage(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" transfer \"Transfer Manual\"\n", roff(strings.ToUpper(manName(c))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fP\n", roff(c.UseLine()))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(c.Long))
	}
	manFlags(&b, "OPTIONS", c.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	manSeeAlso(&b, c)
	return b.String()
}

// manFlags adds a section of flags.
func manFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		head := strings.TrimSpace("\\fB" + roff(short+"--"+f.Name) + "\\fP " + roff(name))
		fmt.Fprintf(b, ".TP\n%s\n%s\n", head, roff(usage+manDefault(f)))
	})
}

// manDefault says what a flag is where nobody sets it, unless that is nothing or its text says so.
func manDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return ""
	}
	if strings.Contains(f.Usage, "default") {
		return ""
	}
	return " (default " + f.DefValue + ")"
}

// manSeeAlso names the pages beside that of a command.
func manSeeAlso(b *strings.Builder, c *cobra.Command) {
	var names []string
	for _, other := range manCommands(c.Root()) {
		if other != c && (other == c.Root() || c == c.Root()) {
			names = append(names, roff(manName(other))+"(1)")
		}
	}
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", strings.Join(names, ", "))
}

// roff writes text so that nothing in it is a command of roff, one line for each.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
