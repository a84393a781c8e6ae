package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// usageTemplate fits a command on one screen: the flags that all commands share have a page of their own.
const usageTemplate = `Usage: {{.UseLine}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}{{$all := .Commands}}
{{- range $g := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $g.ID) .IsAvailableCommand}}
  {{rpad .Name 11}} {{.Short}}{{end}}{{end}}{{end}}
{{- if not .HasParent}}{{range $all}}{{if .IsAdditionalHelpTopicCommand}}
  {{rpad .Name 11}} {{.Short}}{{end}}{{end}}

Help: transfer help COMMAND
Exit: 0 done, 1 failed, 2 not understood, 130 interrupted{{end}}{{end}}
{{- if and .HasParent .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}
{{- if and .HasParent .Runnable}}

Flags of all commands: transfer help flags{{end}}
`

const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`

// helpWidth is the width of help texts: that of the terminal that everybody has.
const helpWidth = 80

func setHelp(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpTemplate(helpTemplate)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Short, c.RunE = "Show the help of a command or a page", helpOf(c.Run)
		}
		if c.Name() == "completion" {
			c.Use, c.Args, c.RunE = "completion SHELL", cobra.ArbitraryArgs, unknownShell
			c.Short, c.Long = "Print a script that has a shell complete command lines", completionText
			for _, shell := range c.Commands() {
				shell.Args = operands()
			}
		}
		if c.Runnable() {
			c.Long = wrap(c.Long)
		}
		hideHelpFlag(c)
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
}

const completionText = "Completion prints a script for a SHELL, which is bash, zsh, fish or powershell, " +
	"that completes commands, flags and the values of flags. How to load it: transfer completion SHELL --help"

// helpOf shows help, but refuses what is neither a command nor a page, for which cobra shows that of all.
func helpOf(show func(*cobra.Command, []string)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		root := cmd.Root()
		if found, _, err := root.Find(args); len(args) > 0 && (err != nil || found == root) {
			return unknownCommand(root, args)
		}
		show(cmd, args)
		return nil
	}
}

// unknownShell refuses a shell that has no completion script, for which cobra shows help.
func unknownShell(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usagef("no completion for %q; there is one for %s", args[0], commandNames(cmd))
}

// wrap breaks a paragraph into lines of helpWidth.
func wrap(text string) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > helpWidth {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}

// hideHelpFlag leaves --help out of the lists of flags: whoever reads them has found it.
func hideHelpFlag(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	if f := c.Flags().Lookup("help"); f != nil {
		f.Hidden = true
	}
	for _, sub := range c.Commands() {
		hideHelpFlag(sub)
	}
}

const referenceText = `A reference (REF) names a model:

  registry.example[:port]/repository[:tag][@digest]
        https, except for localhost, 127.0.0.0/8 and [::1]
  http://host[:port]/repository[:tag]
        with the scheme said aloud
  docker.io/name[:tag], docker.io/namespace/name[:tag]
        Docker Hub; name alone is library/name
  name[:tag], namespace/name[:tag]
        registry.ollama.ai/library/name, registry.ollama.ai/namespace/name
  oci://..., docker://...
        as other programs write them, and the same as without

The tag is "latest" where neither a tag nor a digest is given. A word before
the first slash is a host when it has a dot or a colon in it or is localhost.

A digest (sha256:...) names one content for ever. Pull and push print it:
pin a model with it, as in transfer pull registry.example/me/m@sha256:... DIR`

func referenceTopic() *cobra.Command {
	return &cobra.Command{Use: "references", Short: "How a model is named (a page)", Long: referenceText}
}

func flagsTopic() *cobra.Command {
	c := &cobra.Command{Use: "flags", Short: "The flags of all commands (a page)"}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		usages := c.Root().PersistentFlags().FlagUsagesWrapped(helpWidth)
		c.Print("Flags of all commands:\n\n" + strings.TrimRight(usages, "\n") + "\n\n" + credentialsText)
	})
	return c
}

const credentialsText = `Sizes end in k, M, G or T (powers of 1000) or Ki, Mi, Gi or Ti (powers of
1024), times in s, m or h.

Without --username, credentials come from the Docker configuration
(~/.docker/config.json, or DOCKER_CONFIG/config.json) with its helpers and
stores, then from podman's auth.json; without any, access is anonymous.
HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are honoured.
`
