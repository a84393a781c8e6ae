package consumer_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/modeltransfer/transfer"
)

// layer is a layer of a model as the program keeps it. From is the name of the model that it came from, as
// its user wrote that.
type layer struct {
	Digest string
	Size   int64
	From   string
}

// status is what the program tells whoever waits for it.
type status struct{ completed, total int64 }

// program is one that pulls and pushes models.
type program struct {
	blobs       string // the directory that has the blobs of all models
	base        url.URL
	client      *http.Client
	concurrency int
	streams     int
	token       string
	key         ed25519.PrivateKey // empty: it asks for no tokens
}

// pull has the blobs of a model in the directory.
func (p *program) pull(ctx context.Context, repository string, layers []layer, tell func(status)) error {
	return transfer.Download(ctx, transfer.DownloadOptions{
		Blobs:           blobsOf(layers),
		BaseURL:         p.base.String(),
		DestDir:         p.blobs,
		Repository:      repository,
		Concurrency:     p.concurrency,
		BodyConcurrency: max(1, p.streams),
		Progress:        progress(tell),
		Client:          p.client,
		Token:           p.token,
		GetToken:        p.getToken(),
		Logger:          slog.Default(),
	})
}

// push has the blobs of a model and then its manifest in the registry.
func (p *program) push(
	ctx context.Context, repository, tag string, layers []layer, manifest []byte, tell func(status),
) error {
	return transfer.Upload(ctx, transfer.UploadOptions{
		Blobs:           blobsOf(layers),
		BaseURL:         p.base.String(),
		SrcDir:          p.blobs,
		Concurrency:     p.concurrency,
		BodyConcurrency: max(1, p.streams),
		Progress:        progress(tell),
		Client:          p.client,
		Token:           p.token,
		GetToken:        p.getToken(),
		Logger:          slog.Default(),
		Manifest:        manifest,
		ManifestRef:     tag,
		Repository:      repository,
	})
}

func blobsOf(layers []layer) []transfer.Blob {
	blobs := make([]transfer.Blob, len(layers))
	for i, l := range layers {
		blobs[i] = transfer.Blob{Digest: l.Digest, Size: l.Size, From: l.From}
	}
	return blobs
}

func progress(tell func(status)) func(completed, total int64) {
	if tell == nil {
		return nil
	}
	return func(completed, total int64) { tell(status{completed, total}) }
}

// getToken returns the function that asks for a token with a signature of the user's key.
func (p *program) getToken() func(context.Context, transfer.AuthChallenge) (string, error) {
	if p.key == nil {
		return nil
	}
	return func(ctx context.Context, c transfer.AuthChallenge) (string, error) {
		u, err := url.Parse(c.Realm)
		if err != nil {
			return "", err
		}
		if u.Host != p.base.Host {
			return "", fmt.Errorf("realm host %q is not that of the registry, %q", u.Host, p.base.Host)
		}
		query := u.Query()
		query.Set("service", c.Service)
		for scope := range strings.FieldsSeq(c.Scope) {
			query.Add("scope", scope)
		}
		u.RawQuery = query.Encode()
		return p.ask(ctx, u)
	}
}

func (p *program) ask(ctx context.Context, u *url.URL) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", sign(p.key, u.RequestURI()))
	resp, err := p.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%d: %s", resp.StatusCode, body)
	}
	var answer struct{ Token string }
	return answer.Token, json.Unmarshal(body, &answer)
}

// sign returns the header that shows who asks for a URL.
func sign(key ed25519.PrivateKey, uri string) string {
	encode := base64.StdEncoding.EncodeToString
	return encode(key.Public().(ed25519.PublicKey)) + ":" + encode(ed25519.Sign(key, []byte("GET,"+uri)))
}

// signed tells whether a header is what sign returns.
func signed(header, uri string) bool {
	public, signature, _ := strings.Cut(header, ":")
	key, err := base64.StdEncoding.DecodeString(public)
	sum, err2 := base64.StdEncoding.DecodeString(signature)
	return err == nil && err2 == nil && len(key) == ed25519.PublicKeySize &&
		ed25519.Verify(key, []byte("GET,"+uri), sum)
}
