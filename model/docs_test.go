package model_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// most has the most lines that a program of docs/models.md may have.
var most = map[string]int{"pullFiles": 12, "pushDirectory": 12, "tee": 25, "signatures": 10}

// The programs on the page are those that the examples run, byte for byte.
func TestThePageHasTheProgramsOfTheExamples(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "models.md"))
	require.NoError(t, err)
	source, err := os.ReadFile("programs_test.go")
	require.NoError(t, err)
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "programs_test.go", source, 0)
	require.NoError(t, err)
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		text := string(source[set.Position(f.Pos()).Offset:set.Position(f.End()).Offset])
		assert.Contains(t, string(page), "\n"+text+"\n", f.Name.Name)
		if limit, ok := most[f.Name.Name]; ok {
			assert.LessOrEqual(t, strings.Count(text, "\n")+1, limit, f.Name.Name)
		}
	}
}
