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

// S22: a pipe is not waited for, and neither a link that leads nowhere nor a file of another user is written.
func TestS22OnlyOwnRegularFiles(t *testing.T) {
	for what, put := range map[string]func(t *testing.T, name string) error{
		"pipe":          func(_ *testing.T, name string) error { return syscall.Mkfifo(name, 0o600) },
		"dangling link": func(_ *testing.T, name string) error { return os.Symlink("nowhere", name) },
		"file of another": func(t *testing.T, name string) error {
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
			require.NoError(t, put(t, name))
			e = s.Claim("blob")
			assert.Empty(t, e.Session())
			e.Save("x")
			e.Close(true)
			e = s.Claim("blob")
			assert.Equal(t, "x", e.Session())
			e.Close(false)
			assert.Empty(t, files(t, s), "nor is a file where the link leads")
		})
	}
}
