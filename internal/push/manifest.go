package push

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Manifest is a manifest on its way to the registry. It is not safe for concurrent use.
type Manifest struct {
	*Pusher
	data    []byte
	ref     string
	budget  *retry.Budget
	putSent bool // and may have arrived
	overdue overdue
	lacking []digest.Digest
	header  http.Header // of the answer that confirmed it, nil where another request has
}

// Manifest returns a manifest that is to be pushed under a tag or its digest.
func (p *Pusher) Manifest(data []byte, ref string, budget *retry.Budget) *Manifest {
	return &Manifest{Pusher: p, data: data, ref: ref, budget: budget}
}

// Header is that of the answer that said that the registry has the manifest now.
func (m *Manifest) Header() http.Header { return m.header }

// Lacking are the blobs that the registry has said it lacks when it last refused the manifest for that. Where
// it has named none, they are those that are there by a bare HEAD only.
func (m *Manifest) Lacking() []digest.Digest { return m.lacking }

// Attempt puts the manifest. After a PUT of which it is not known what became, it is asked first whether the
// manifest is there. It never tells of bytes.
func (m *Manifest) Attempt(ctx context.Context) (moved bool, err error) {
	m.budget.Attempt()
	if m.putSent {
		there, err := m.exists(ctx)
		if there || err != nil {
			return false, err
		}
	}
	return false, m.put(ctx)
}

func (m *Manifest) put(ctx context.Context) error {
	m.putSent, m.lacking, m.header = true, nil, nil
	a, err := m.ask(ctx, exchange.Request{
		Request: wire.Request{
			Method: http.MethodPut, Target: m.Registry.Manifest(m.Repository, m.ref),
			Header: http.Header{"Content-Type": {manifest.MediaType(m.data)}},
			Data:   m.data,
		},
		AnswerTime: m.overdue.extra(m.Exchange.Watchdog.StallTimeout(), m.budget),
		Budget:     m.budget,
	})
	m.overdue.add(err)
	switch {
	case err != nil:
		return err
	case a.failed:
		if a.failure.Has("MANIFEST_BLOB_UNKNOWN") {
			m.lacking = a.failure.Digests
			if len(m.lacking) == 0 {
				m.lacking = m.capabilities.unproven.all()
			}
		}
		return m.err(a)
	}
	m.header = a.Header
	return m.stored(ctx, a)
}

// stored judges an answer that says that the registry has the manifest now. Where it does not confirm that,
// the registry is asked.
func (m *Manifest) stored(ctx context.Context, a answer) error {
	got := a.digest()
	switch {
	case got != "" && got != m.digest(got):
		return a.mismatch(m.digest(got))
	case a.whole() && (got != "" || a.is(http.StatusCreated, http.StatusAccepted)):
		return nil
	case a.webPage():
		return a.unexpected("201")
	}
	there, err := m.exists(ctx)
	if there || err != nil {
		return err
	}
	return a.unexpected("201")
}

// exists tells whether the registry has the manifest under the reference.
func (m *Manifest) exists(ctx context.Context) (bool, error) {
	request := exchange.Request{
		Request: wire.Request{
			Method: http.MethodHead, Target: m.Registry.Manifest(m.Repository, m.ref),
			Header: http.Header{"Accept": {manifest.MediaType(m.data)}},
		},
		Budget: m.budget, MaySlow: true,
	}
	a, err := m.ask(ctx, request)
	switch {
	case err != nil:
		return false, err
	case a.temporary():
		return false, m.err(a)
	case a.StatusCode != http.StatusOK:
		return false, nil
	}
	if got := a.digest(); got != "" {
		return got == m.digest(got), nil
	}
	request.Method = http.MethodGet
	return m.served(ctx, request)
}

// served tells whether the registry answers a request with the manifest. One that does not name its digest
// may have another under the tag.
func (m *Manifest) served(ctx context.Context, request exchange.Request) (bool, error) {
	resp, err := m.Exchange.Do(ctx, request)
	if err != nil {
		return false, err
	}
	if exchange.Failed(resp.StatusCode) {
		if a := m.read(resp); a.temporary() {
			return false, m.err(a)
		}
		return false, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(m.data))+1))
	return err == nil && bytes.Equal(data, m.data), err
}

// digest hashes the manifest by the algorithm of another digest, so that the two can be compared.
func (m *Manifest) digest(like digest.Digest) digest.Digest {
	return like.Algorithm().FromBytes(m.data)
}
