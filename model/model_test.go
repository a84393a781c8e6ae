package model_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without a word about log-ins, those that docker keeps are used.
func TestOpenUsesTheLogInsThatDockerKeeps(t *testing.T) {
	_, host := serve(t, protected())
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	repo, err := model.Open(parse(t, host+"/me/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	require.ErrorIs(t, repo.Ping(t.Context()), registry.ErrUnauthorized)
	logIn(t, host)
	repo, err = model.Open(parse(t, host+"/me/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	require.NoError(t, repo.Ping(t.Context()))
}

// What is public can be had without a log-in that cannot be read, and the log says why there is none.
func TestALogInThatCannotBeReadIsTold(t *testing.T) {
	_, host := serve(t, protected())
	logIn(t, host)
	config := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	require.NoError(t, os.WriteFile(config, []byte("{"), 0o600))
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	repo, err := model.Open(parse(t, host+"/me/model"), model.Options{Logger: logger})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	require.ErrorIs(t, repo.Ping(t.Context()), registry.ErrUnauthorized)
	assert.Contains(t, log.String(), "level=WARN")
	assert.Contains(t, log.String(), config)
}

// What the caller returns counts, and its error ends the call.
func TestOpenUsesTheCredentialsOfTheCaller(t *testing.T) {
	_, host := serve(t, protected())
	r, errAsk := parse(t, host+"/me/model"), errors.New("nobody is there")
	var asked []ref.Reference
	repo, err := model.Open(r, model.Options{
		Credentials: func(_ context.Context, of ref.Reference) (registry.Credentials, error) {
			asked = append(asked, of)
			return registry.Credentials{}, errAsk
		},
	})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	require.ErrorIs(t, repo.Ping(t.Context()), errAsk)
	assert.Equal(t, []ref.Reference{r}, asked)
}

func TestOpenRefusesWhatIsNoReference(t *testing.T) {
	_, err := model.Open(ref.Reference{}, model.Options{})
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
}
