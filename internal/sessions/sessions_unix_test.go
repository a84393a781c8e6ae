//go:build unix

package sessions

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S22: a pipe is not waited for, and a file of another user is not written.
func TestS22OnlyOwnRegularFiles(t *testing.T) {
	for what, put := range map[string]func(name string) error{
		"pipe": func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"file of another": func(name string) error {
			if err := os.WriteFile(name, []byte(`{"blob":"blob","session":"theirs"}`), 0o666); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			return os.Chown(name, 12345, 12345)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := Store{dir: t.TempDir()}
			e := s.Claim("blob")
			name := filepath.Join(s.dir, e.name)
			e.Close(false)
			require.NoError(t, put(name))
			e = s.Claim("blob")
			assert.Empty(t, e.Session())
			e.Save("x")
			e.Close(true)
			e = s.Claim("blob")
			assert.Equal(t, "x", e.Session())
			e.Close(false)
		})
	}
}
