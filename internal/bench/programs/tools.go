package programs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The programs that are built, in the versions that are compared. Skopeo comes with the system.
const (
	registryModule = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
	orasModule     = "oras.land/oras/cmd/oras@v1.3.6"
	craneModule    = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
	regctlModule   = "github.com/regclient/regclient/cmd/regctl@v0.11.7"
)

// transferName is the program of this module.
const transferName = "transfer"

// unsyncedName is the same program, whose syncs do nothing: strace answers them. It is run only where it is
// asked for, to tell what they cost.
const unsyncedName = "unsynced"

// tag is what a model is called in a registry and in an OCI layout.
const tag = "latest"

// program is how a program is called.
type program struct {
	module string // to install; empty where it is not
	note   string

	// push sends a model, which is in a directory as transfer pulls it and in an OCI layout.
	push func(m modelFiles, ref string) []string

	// pull fetches a model into a directory that does not exist yet.
	pull func(ref, dir string) []string
}

// modelFiles is a model in the two forms that programs take.
type modelFiles struct {
	dir    string // blobs and a manifest
	layout string // an OCI layout
}

func programNames() []string { return []string{transferName, "oras", "crane", "regctl", "skopeo"} }

func programs() map[string]program {
	regctl := func(args ...string) []string { return append([]string{"regctl"}, args...) }
	unsynced := func(args ...string) []string {
		return append(strings.Fields("strace -f --seccomp-bpf -qq -o /dev/null -e trace=fsync,fdatasync "+
			"-e inject=fsync,fdatasync:retval=0 "+transferName), args...)
	}
	return map[string]program{
		transferName: {
			note: "verifies, syncs, resumes",
			push: func(m modelFiles, ref string) []string { return []string{transferName, "push", m.dir, ref} },
			pull: func(ref, dir string) []string { return []string{transferName, "pull", ref, dir} },
		},
		unsyncedName: {
			note: "transfer without its syncs",
			push: func(m modelFiles, ref string) []string { return unsynced("push", m.dir, ref) },
			pull: func(ref, dir string) []string { return unsynced("pull", ref, dir) },
		},
		"oras": {
			module: orasModule,
			push: func(m modelFiles, ref string) []string {
				from := m.layout + ":" + tag
				return []string{"oras", "copy", "--no-tty", "--from-oci-layout", from, "--to-plain-http", ref}
			},
			pull: func(ref, dir string) []string {
				return []string{"oras", "copy", "--no-tty", "--from-plain-http", ref, "--to-oci-layout", dir + ":" + tag}
			},
		},
		"crane": {
			module: craneModule,
			push:   func(m modelFiles, ref string) []string { return []string{"crane", "push", m.layout, ref} },
			pull: func(ref, dir string) []string {
				return []string{"crane", "pull", "--format=oci", ref, dir}
			},
		},
		"regctl": {
			module: regctlModule,
			push: func(m modelFiles, ref string) []string {
				return regctl(plain(ref), "image", "copy", "ocidir://"+m.layout+":"+tag, ref)
			},
			pull: func(ref, dir string) []string {
				return regctl(plain(ref), "image", "copy", ref, "ocidir://"+dir+":"+tag)
			},
		},
		"skopeo": {
			note: "of the system",
			push: func(m modelFiles, ref string) []string {
				from := "oci:" + m.layout + ":" + tag
				return []string{"skopeo", "copy", "--dest-tls-verify=false", from, "docker://" + ref}
			},
			pull: func(ref, dir string) []string {
				return []string{"skopeo", "copy", "--src-tls-verify=false", "docker://" + ref, "oci:" + dir + ":" + tag}
			},
		},
	}
}

// plain is the flag that has regctl use HTTP for the host of a reference.
func plain(ref string) string { return "--host=reg=" + hostOf(ref) + ",tls=disabled" }

// install builds what is not there yet, and this module's program in any case.
func install(ctx context.Context, o options, out io.Writer) error {
	tools, err := filepath.Abs(o.tools)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	modules := map[string]string{"registry": registryModule}
	for _, name := range o.names {
		if m := programs()[name].module; m != "" {
			modules[name] = m
		}
	}
	for name, module := range modules {
		if _, err := os.Stat(filepath.Join(tools, name)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		fmt.Fprintln(out, "installing", module)
		c := exec.CommandContext(ctx, "go", "install", module)
		c.Dir = tools // outside of any module
		c.Env = append(os.Environ(), "GOBIN="+tools, "GOWORK=off", "GOFLAGS=")
		if err := mustRun(c); err != nil {
			return err
		}
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(tools, transferName), ".")
	c.Dir = filepath.Join(o.checkout, "cmd", "transfer")
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

// find returns where a program is: among the tools, or where the system has it.
func (o options) find(name string) (string, error) {
	path := filepath.Join(o.tools, name)
	if _, err := os.Stat(path); err == nil {
		return filepath.Abs(path)
	}
	return exec.LookPath(name)
}
