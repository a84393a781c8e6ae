package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes manual pages. It is for packagers, and so not listed.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man [DIR]", Short: "Write the manual page, or one for each command into DIR", Hidden: true,
		Long:    "Man writes the manual page to stdout or, with DIR, a page for each command into it.",
		Example: "  transfer man | man -l -\n  transfer man /usr/local/share/man/man1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same program writes the same pages
			header := &doc.GenManHeader{Title: "TRANSFER", Section: "1", Source: "transfer", Manual: "Transfer Manual"}
			if len(args) == 1 {
				return writePages(root, header, args[0])
			}
			return writeManual(cmd.OutOrStdout(), root, header)
		},
	}
}

// writePages writes a page for each command into a directory.
func writePages(root *cobra.Command, header *doc.GenManHeader, dir string) error {
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "transfer*.1"))
	for _, page := range pages {
		data, readErr := os.ReadFile(page)
		if readErr != nil {
			return readErr
		}
		// Nobody writes --quiet=false to say nothing.
		if err := os.WriteFile(page, bytes.ReplaceAll(data, []byte("[=false]"), nil), 0o644); err != nil {
			return err
		}
	}
	return err
}

// writeManual writes the page of the program and those of its commands behind it.
func writeManual(w io.Writer, root *cobra.Command, header *doc.GenManHeader) error {
	dir, err := os.MkdirTemp("", "transfer-man-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writePages(root, header, dir); err != nil {
		return err
	}
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		if c != root && !c.IsAvailableCommand() {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			return err
		}
		fmt.Fprintln(w, strings.TrimSpace(string(page)))
	}
	return nil
}
