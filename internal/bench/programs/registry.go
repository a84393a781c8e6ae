package programs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// startTime is how long a registry may take to answer.
const startTime = 10 * time.Second

// distribution is the reference registry, with its files in a directory.
type distribution struct {
	host    string
	process *exec.Cmd
}

// startDistribution starts a registry that keeps its files in a directory.
func startDistribution(ctx context.Context, tools, dir string) (*distribution, error) {
	host, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	config := dir + ".yml" // not among the files that a test of completeness looks at
	const text = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q}
`
	data := fmt.Appendf(nil, text, filepath.Join(dir, "files"), host)
	if err := os.WriteFile(config, data, 0o644); err != nil {
		return nil, err
	}
	d := &distribution{host: host, process: exec.Command(filepath.Join(tools, "registry"), "serve", config)}
	d.process.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	if err := d.await(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// freeAddress is one that nobody listens on, unless somebody takes it at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await waits until the registry answers.
func (d *distribution) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.host+"/v2/", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the registry does not answer: %w", ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop kills the registry: it has nothing to finish.
func (d *distribution) stop() error {
	err := d.process.Process.Kill()
	_ = d.process.Wait() // it says that the process was killed
	return err
}

// place is where the model is, or is to be.
func (d *distribution) place() place { return place{ref: d.host + "/bench/model:" + tag} }
