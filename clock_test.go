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
		"Unix": true, "UnixNano": true, "UnixMilli": true, "UnixMicro": true, "Round": true, "UTC": true, "Local": true, "In": true,
	}
	found := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.Contains(path, "test") || path == "cmd" || path == "internal/bench" || path == "internal/e2e" || path == "internal/storm" || strings.HasPrefix(path, ".") && path != ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		found++
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && wall[f.Sel.Name] {
					name := filepath.ToSlash(path) + ": " + f.Sel.Name
					assert.Fail(t, "a time without its monotonic reading", name)
				}
			}
			return true
		})
		return nil
	}))
	assert.Greater(t, found, 20, "files that were looked at")
}
