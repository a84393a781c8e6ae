package model_test

import (
	"os"
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

// S24: so is a copy through the disk whose source brings nothing. The other then has a directory of its own.
// One that gets on is waited for, and leaves nothing to do.
func TestS24CopyThatIsWaitedFor(t *testing.T) {
	for fault, getsOn := range map[string]bool{"stall(500)": false, "slow(4K)": true} {
		t.Run(fault, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				testWaitingCopy(t, mode, fault, getsOn)
			})
		})
	}
}

func testWaitingCopy(t *testing.T, mode registrytest.Mode, fault string, getsOn bool) {
	network := registrytest.NewNetwork(t)
	reg := registrytest.New(registrytest.Options{MaxBody: 1 << 20, NoMount: true}) // past it: by the disk
	server := network.Serve("registry.test", reg, mode)
	opts := model.Options{Client: server.Client}
	from, to := server.URL+"/me/model:v1", server.URL+"/you/model:v1"
	made := files(t, map[string]string{"weights.bin": strings.Repeat("weights ", 1<<18)})
	_, err := model.Push(t.Context(), []string{made}, from, model.PushOptions{Options: opts})
	require.NoError(t, err)
	faults := reg.Fault("GET", "/me/model/blobs/", "2*ok->**"+fault) // both blobs come once
	dir := t.TempDir()
	run := func(stall time.Duration, waiting func(string)) (model.Result, error) {
		o := opts
		o.StallTimeout, o.RetryTimeout, o.Waiting = stall, time.Hour, waiting
		return model.Copy(t.Context(), from, to, model.CopyOptions{Options: o, Dir: dir})
	}
	ended := make(chan error, 1)
	go func() {
		_, err := run(2*time.Minute, nil)
		ended <- err
	}()
	time.Sleep(30 * time.Second)
	if !getsOn {
		faults.Stop()
	}
	begun, waited := time.Now(), 0
	r, err := run(5*time.Second, func(string) { waited++ })
	require.NoError(t, err)
	assert.Equal(t, getsOn, time.Since(begun) > 20*time.Second, "%v", time.Since(begun))
	assert.Equal(t, getsOn, r.Moved == 0)
	assert.Equal(t, 1, waited)
	require.NoError(t, <-ended)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	reg.Wait()
}
