package e2e

import (
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// peer is a second client, go-containerregistry, for one repository.
type peer struct {
	repository name.Repository
	options    []remote.Option
}

func newPeer(t testing.TB, s *server, repository string) *peer {
	t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	repo, err := name.NewRepository(u.Host + "/" + repository)
	require.NoError(t, err)
	transport := http.DefaultTransport
	if s.client != nil {
		transport = s.client.Transport
	}
	return &peer{repository: repo, options: []remote.Option{remote.WithTransport(transport)}}
}

// writeBlob pushes content.
func (p *peer) writeBlob(t testing.TB, content []byte) {
	t.Helper()
	layer := static.NewLayer(content, types.OCILayer)
	require.NoError(t, remote.WriteLayer(p.repository, layer, p.options...))
}

// requireBlob pulls a blob and compares it with the file of it in dir.
func (p *peer) requireBlob(t testing.TB, dir string, b transfer.Blob) {
	t.Helper()
	layer, err := remote.Layer(p.repository.Digest(b.Digest), p.options...)
	require.NoError(t, err)
	body, err := layer.Compressed()
	require.NoError(t, err)
	defer body.Close()
	want, err := os.Open(pathOf(dir, b))
	require.NoError(t, err)
	defer want.Close()
	requireSameContent(t, want, body, b.Digest)
}

// manifest pulls a manifest by tag or digest.
func (p *peer) manifest(t testing.TB, ref name.Reference) *remote.Descriptor {
	t.Helper()
	d, err := remote.Get(ref, p.options...)
	require.NoError(t, err)
	return d
}
