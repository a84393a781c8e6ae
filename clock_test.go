package transfer_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestS19NothingMeasuresWithTheWallClock finds what would make a duration depend on a clock that is set
// while it is measured: times that lose their monotonic reading.
func TestS19NothingMeasuresWithTheWallClock(t *testing.T) {
	wall := map[string]bool{
		"Unix": true, "UnixNano": true, "UnixMilli": true, "UnixMicro": true,
		"Round": true, "UTC": true, "Local": true, "In": true,
	}
	files := codeOfTheModule(t)
	assert.Greater(t, len(files), 20, "files that were looked at")
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, _ := n.(*ast.CallExpr)
			if call == nil {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && wall[f.Sel.Name] {
				assert.Fail(t, "a time without its monotonic reading", "%s: %s", name, f.Sel.Name)
			}
			return true
		})
	}
}

// codeOfTheModule returns the names of the files that callers of the package run.
func codeOfTheModule(t *testing.T) (files []string) {
	t.Helper()
	others := map[string]bool{"cmd": true, "internal/bench": true, "internal/e2e": true, "internal/storm": true}
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." &&
			(others[name] || strings.Contains(name, "test") || strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			files = append(files, name)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}
