// Package programs has whole programs move models to, from and between real registries: the reference
// implementation, with its files on disk or in memory.
package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The programs that are built, in the versions that are compared.
const (
	registryModule = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
	orasModule     = "oras.land/oras/cmd/oras@v1.3.6"
	craneModule    = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
	regctlModule   = "github.com/regclient/regclient/cmd/regctl@v0.11.7"
)

// transferName is the program of this module.
const transferName = "transfer"

// tag is what a model is called in a registry and in an OCI layout.
const tag = "latest"

// place is where a model is: at a registry, or in the two directories of a modelFiles.
type place struct {
	ref string
	modelFiles
}

// program is how a program is called.
type program struct {
	name   string
	module string // to install; empty where it is not
	note   string

	// move is the command line for moving a model. A directory that is moved to does not exist yet.
	move func(from, to place) []string
}

// all are the programs that are compared.
func all() []program {
	return []program{
		{transferName, "", "verifies, syncs, resumes", transfer},
		{"oras", orasModule, "", oras},
		{"crane", craneModule, "", crane},
		{"regctl", regctlModule, "", regctl},
	}
}

// Names lists the programs.
func Names() (names []string) {
	for _, p := range all() {
		names = append(names, p.name)
	}
	return names
}

// Note says what is to be known of a program beside its figures.
func Note(name string) string { return find(name).note }

func find(name string) program {
	for _, p := range all() {
		if p.name == name {
			return p
		}
	}
	return program{}
}

func transfer(from, to place) []string {
	switch {
	case from.ref == "":
		return []string{transferName, "push", from.dir, to.ref}
	case to.ref == "":
		return []string{transferName, "pull", from.ref, to.dir}
	}
	return []string{transferName, "copy", from.ref, to.ref}
}

func oras(from, to place) []string {
	side := func(direction string, p place) []string {
		if p.ref == "" {
			return []string{"--" + direction + "-oci-layout", p.layout + ":" + tag}
		}
		return []string{"--" + direction + "-plain-http", p.ref}
	}
	return append(append([]string{"oras", "copy", "--no-tty"}, side("from", from)...), side("to", to)...)
}

func crane(from, to place) []string {
	switch {
	case from.ref == "":
		return []string{"crane", "push", from.layout, to.ref}
	case to.ref == "":
		return []string{"crane", "pull", "--format=oci", from.ref, to.layout}
	}
	return []string{"crane", "copy", from.ref, to.ref}
}

func regctl(from, to place) []string {
	side := func(p place) string {
		if p.ref == "" {
			return "ocidir://" + p.layout + ":" + tag
		}
		return p.ref
	}
	args := []string{"regctl"}
	for _, p := range []place{from, to} {
		if p.ref != "" {
			host, _, _ := strings.Cut(p.ref, "/")
			args = append(args, "--host=reg="+host+",tls=disabled")
		}
	}
	return append(args, "image", "copy", side(from), side(to))
}

// Install builds those programs that are not in a directory yet, and that of the module at a checkout in any
// case.
func Install(ctx context.Context, tools, checkout string, names []string) error {
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	modules := map[string]string{"registry": registryModule}
	for _, name := range names {
		modules[name] = find(name).module
	}
	for name, module := range modules {
		if _, err := os.Stat(filepath.Join(tools, name)); module == "" || !errors.Is(err, os.ErrNotExist) {
			continue
		}
		c := exec.CommandContext(ctx, "go", "install", module)
		c.Dir = tools // outside of any module
		c.Env = append(os.Environ(), "GOBIN="+tools, "GOWORK=off", "GOFLAGS=")
		if err := mustRun(c); err != nil {
			return err
		}
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(tools, transferName), ".")
	c.Dir = filepath.Join(checkout, "cmd", "transfer")
	c.Env = append(os.Environ(), "GOWORK=off")
	return mustRun(c)
}

// mustRun runs a command, whose output is part of the error.
func mustRun(c *exec.Cmd) error {
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.1000s", c, err, text)
	}
	return nil
}
