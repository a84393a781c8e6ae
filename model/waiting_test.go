package model_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S24: a pull whose registry brings nothing is waited for as long as the waiter's own options say.
func TestS24PullThatBringsNothing(t *testing.T) {
	for _, form := range []model.Form{model.Files, model.Blobs, model.OCILayout} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			network := registrytest.NewNetwork(t)
			reg := registrytest.New(registrytest.Options{})
			server := network.Serve("registry.test", reg, mode)
			reference := server.URL + "/me/model:v1"
			opts := model.Options{Client: server.Client}
			made := files(t, map[string]string{"weights.bin": strings.Repeat("weights ", 1<<18)})
			_, err := model.Push(t.Context(), []string{made}, reference, model.PushOptions{Options: opts})
			require.NoError(t, err)
			stalls := reg.Fault("GET", "/blobs/", "**stall(500)")
			dir := filepath.Join(t.TempDir(), "model")
			pull := func(stall time.Duration, waiting func(string)) error {
				o := opts
				o.StallTimeout, o.RetryTimeout, o.Waiting = stall, time.Hour, waiting
				_, err := model.Pull(t.Context(), reference, dir, model.PullOptions{Options: o, Form: form})
				return err
			}
			ended := make(chan error, 1)
			go func() { ended <- pull(2*time.Minute, nil) }()
			time.Sleep(30 * time.Second)
			stalls.Stop()
			begun, waited := time.Now(), 0
			require.NoError(t, pull(5*time.Second, func(string) { waited++ }))
			assert.Less(t, time.Since(begun), 20*time.Second)
			assert.Equal(t, 1, waited)
			require.NoError(t, <-ended, "the other has it too")
			_, err = model.Verify(t.Context(), dir, model.VerifyOptions{})
			require.NoError(t, err)
			reg.Wait()
		})
	}
}
