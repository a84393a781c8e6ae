package statemachine

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// holders are calls that hold blobs and bring no byte: their registry is dead, or has stalled.
var holders = map[string]string{"dead": "**stallheaders", "stalled": "**stall(100K)"}

// hold begins a call that holds all blobs of the directory and brings nothing. What it returns ends it.
func (m *machine) hold(how string) (end func()) {
	if how == "" {
		return func() {}
	}
	reg := registrytest.New(registrytest.Options{})
	for _, b := range m.blobs {
		reg.Put(repository, m.contents[strings.Replace(b.Digest, ":", "-", 1)])
	}
	reg.Fault("", "", holders[how])
	ctx, cancel := context.WithCancel(m.t.Context())
	m.hosts++
	host := fmt.Sprintf("holder-%d.test", m.hosts)
	opts := transfer.DownloadOptions{
		Blobs: m.blobs, BaseURL: m.net.Serve(host, reg, m.Mode).URL, DestDir: filepath.Join(m.top, "dest"),
		Repository: repository, Client: m.client,
		StallTimeout: 2 * patience, RetryTimeout: 2 * patience,
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = transfer.Download(ctx, opts) })
	time.Sleep(10 * time.Millisecond) // it has claimed what it wants
	synctest.Wait()
	return func() {
		cancel()
		wg.Wait()
	}
}
