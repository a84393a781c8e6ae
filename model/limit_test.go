package model_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
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

// slow is a registry whose answers take a second, and which notes how many requests it has at once.
type slow struct {
	http.Handler
	now, most atomic.Int64
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); {
		most = s.most.Load()
	}
	time.Sleep(time.Second)
	s.Handler.ServeHTTP(w, r)
}

func TestACopyKeepsToItsConcurrency(t *testing.T) {
	registrytest.Each(t, map[string]struct {
		opts model.Options
		most int64
	}{
		"concurrency": {model.Options{Concurrency: 2, BodyConcurrency: 8}, 2},
		"bodies":      {model.Options{BodyConcurrency: 2}, 16}, // more may ask
		"negative":    {model.Options{BodyConcurrency: -1}, 16},
		"enormous":    {model.Options{BodyConcurrency: 1000}, 32},
	}, func(t *testing.T, mode registrytest.Mode, c struct {
		opts model.Options
		most int64
	}) {
		from := registrytest.New(registrytest.Options{})
		network := registrytest.NewNetwork(t)
		source, target := &slow{Handler: from}, &slow{Handler: registrytest.New(registrytest.Options{})}
		made := map[string]string{}
		for i := range 50 {
			made[fmt.Sprint("weights-", i)] = fmt.Sprint(i)
		}
		here := network.Serve("source.test", source, mode)
		there := network.Serve("target.test", target, mode)
		c.opts.Client = here.Client
		push := model.PushOptions{Options: model.Options{Client: here.Client}}
		reference := here.URL + "/me/model:v1"
		_, err := model.Push(t.Context(), []string{files(t, made)}, reference, push)
		require.NoError(t, err)
		source.most.Store(0)
		opts := model.CopyOptions{Options: c.opts}
		_, err = model.Copy(t.Context(), reference, there.URL+"/me/model:v1", opts)
		require.NoError(t, err)
		assert.LessOrEqual(t, source.most.Load(), c.most)
		assert.LessOrEqual(t, target.most.Load(), c.most)
	})
}
