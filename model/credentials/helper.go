package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/registry"
)

// The words of the protocol of programs that keep credentials (docker-credential-helpers).
const (
	notFound  = "credentials not found in native keychain"
	tokenName = "<token>" // the name under which an identity token is kept
)

// pipesGrace is how long what a program has started may hold its output after the program has ended.
const pipesGrace = time.Second

var (
	errHelperName   = errors.New("that is no name of a program")
	errHelperAnswer = errors.New("its answer is not JSON of its protocol")
)

// kept is a log-in as such programs have it.
type kept struct {
	ServerURL string
	Username  string
	Secret    string
}

// get asks a program for a log-in; zero means that it has none.
func (f Files) get(ctx context.Context, helper, key string) (registry.Credentials, error) {
	out, err := f.ask(ctx, helper, "get", []byte(key))
	if err != nil {
		if err.Error() == notFound {
			err = nil
		}
		return registry.Credentials{}, err
	}
	var k kept
	if json.Unmarshal(out, &k) != nil {
		return registry.Credentials{}, errHelperAnswer
	}
	if k.Username == tokenName {
		return registry.Credentials{IdentityToken: k.Secret}, nil
	}
	return registry.Credentials{Username: k.Username, Password: k.Secret}, nil
}

// store gives a program a log-in to keep.
func (f Files) store(ctx context.Context, helper, key string, c registry.Credentials) error {
	k := kept{key, c.Username, c.Password}
	if c.IdentityToken != "" {
		k.Username, k.Secret = tokenName, c.IdentityToken
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = f.ask(ctx, helper, "store", data)
	return err
}

// erase asks a program to forget a log-in.
func (f Files) erase(ctx context.Context, helper, key string) error {
	_, err := f.ask(ctx, helper, "erase", []byte(key))
	return err
}

// ask runs a program. It matches [exec.ErrNotFound] where there is none of this name.
func (f Files) ask(ctx context.Context, helper, action string, input []byte) ([]byte, error) {
	if strings.ContainsAny(helper, `/\`) {
		return nil, errHelperName
	}
	path, err := exec.LookPath("docker-credential-" + helper)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, action)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(input), pipesGrace
	cmd.Env = slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(f.Hidden, name)
	})
	out, err := cmd.Output()
	var failed *exec.ExitError
	if message := strings.TrimSpace(string(out)); errors.As(err, &failed) && message != "" {
		return nil, errors.New(message) // as the protocol has it
	}
	return out, err
}

// defaultHelper is the program in which a new configuration keeps credentials, as Docker chooses it, or "".
func defaultHelper() string {
	known := map[string]string{"darwin": "osxkeychain", "windows": "wincred", "linux": "secretservice"}
	helper := known[runtime.GOOS]
	if _, err := exec.LookPath("pass"); err == nil && runtime.GOOS == "linux" {
		helper = "pass"
	}
	if _, err := exec.LookPath("docker-credential-" + helper); helper == "" || err != nil {
		return ""
	}
	return helper
}
