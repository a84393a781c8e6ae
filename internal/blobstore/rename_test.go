package blobstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestS18RenameWaitsForAFileThatIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errShared := errors.New("shared")
		shared := func(err error) bool { return errors.Is(err, errShared) }

		begun, tries := time.Now(), 0
		require.NoError(t, whileShared(func() error {
			if tries++; tries < 5 {
				return errShared
			}
			return nil
		}, shared))
		assert.Less(t, time.Since(begun), 100*time.Millisecond)

		begun = time.Now()
		require.ErrorIs(t, whileShared(func() error { return errShared }, shared), errShared)
		assert.Greater(t, time.Since(begun), renameTimeout/3)
		assert.LessOrEqual(t, time.Since(begun), 2*time.Second)

		begun, tries = time.Now(), 0
		require.Error(t, whileShared(func() error { tries++; return errors.New("other") }, shared))
		assert.Equal(t, 1, tries)
		assert.Zero(t, time.Since(begun))
	})
}
