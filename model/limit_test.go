package model_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Calls of all kinds keep to one cap, each by itself and all at once.
func TestCallsShareALimiter(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		network := registrytest.NewNetwork(t)
		server := network.Serve("registry.test", registrytest.New(registrytest.Options{}), mode)
		other := network.Serve("other.test", registrytest.New(registrytest.Options{}), mode)
		reference := server.URL + "/me/model:v1"
		opts := model.Options{Client: server.Client, Limiter: transfer.NewLimiter(1 << 20)}
		made := files(t, map[string]string{"weights.bin": strings.Repeat("weights ", 1<<18)})
		push := func(ctx context.Context) error {
			_, err := model.Push(ctx, []string{made}, reference, model.PushOptions{Options: opts})
			return err
		}
		pull := func(ctx context.Context) error {
			dir := filepath.Join(t.TempDir(), "model")
			_, err := model.Pull(ctx, reference, dir, model.PullOptions{Options: opts})
			return err
		}
		copied := func(to string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := model.Copy(ctx, reference, other.URL+to, model.CopyOptions{Options: opts})
				return err
			}
		}
		took := func(calls ...func(context.Context) error) float64 {
			time.Sleep(time.Second) // what was used before is paid
			start, ended := time.Now(), make(chan error)
			for _, call := range calls {
				go func() { ended <- call(t.Context()) }()
			}
			for range calls {
				require.NoError(t, <-ended)
			}
			return time.Since(start).Seconds()
		}
		assert.InEpsilon(t, 2, took(push), 0.1)
		assert.InEpsilon(t, 2, took(pull), 0.1)
		assert.InEpsilon(t, 2, took(copied("/me/one:v1")), 0.1)
		assert.InEpsilon(t, 4, took(pull, copied("/me/two:v1")), 0.1)
	})
}
