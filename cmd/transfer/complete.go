package main

import "github.com/spf13/cobra"

// flagValues are the values of flags that take one of a few.
var flagValues = map[string][]string{
	"into":     {"files", "blobs", "oci", "ollama"},
	"type":     {"files", "modelpack", "ollama"},
	"platform": {"linux/amd64", "linux/arm64", "windows/amd64", "darwin/arm64"},
}

// fileFlags take a file, and dirFlags a directory.
var (
	fileFlags = []string{"ca-file", "cert", "key", "tls-cert", "tls-key", "reuse"}
	dirFlags  = []string{"dir"}
)

// completeValues tells shells the values of flags, and to complete no file names where there are none.
func completeValues(c *cobra.Command) {
	for name, values := range flagValues {
		if c.LocalFlags().Lookup(name) != nil {
			// The flag is there, and has no completion yet.
			_ = c.RegisterFlagCompletionFunc(name,
				cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	for _, name := range fileFlags {
		if c.LocalFlags().Lookup(name) != nil {
			_ = c.MarkFlagFilename(name) // the flag is there
		}
	}
	for _, name := range dirFlags {
		if c.LocalFlags().Lookup(name) != nil {
			_ = c.MarkFlagDirname(name)
		}
	}
	for _, sub := range c.Commands() {
		completeValues(sub)
	}
}
