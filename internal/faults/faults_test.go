package faults_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	repository = "../.."
	list       = repository + "/docs/faults.md"
)

var update = flag.Bool("update", false, "write the names of the tests into docs/faults.md")

// An id is a letter for the kind of fault and a number.
var (
	prefix      = regexp.MustCompile(`^(?:Test|Fuzz)(?:Download|Upload)?`)
	idOfTest    = regexp.MustCompile(`^(?:And)?([NUSIAEGLH]\d{1,2})(\D|$)`)
	idOfSubtest = regexp.MustCompile(`^([NUSIAEGLH]\d{1,2})(?: |$)`)
	row         = regexp.MustCompile(`(?m)^- \*\*([A-Z]\d+)\*\* `)
	testName    = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
)

// fault is one row of the list.
type fault struct {
	id    string
	text  string   // without the tests
	tests []string // that the row names
}

// readList returns the rows of the list, and what stands before, between and after them.
func readList(t *testing.T) (faults []fault, page string) {
	t.Helper()
	data, err := os.ReadFile(list)
	require.NoError(t, err)
	page = string(data)
	starts := row.FindAllStringSubmatchIndex(page, -1)
	for i, at := range starts {
		end := len(page)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		if blank := strings.Index(page[at[0]:end], "\n\n"); blank >= 0 {
			end = at[0] + blank + 1
		}
		text := page[at[0]:end]
		f := fault{id: page[at[2]:at[3]], text: text}
		for _, name := range testName.FindAllStringSubmatch(text, -1) {
			f.tests = append(f.tests, name[1])
		}
		faults = append(faults, f)
	}
	return faults, page
}

// testsOf returns the tests of all modules of the repository by the ids that they name.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "faults_test.go" {
			return err
		}
		return collect(path, tests)
	})
	require.NoError(t, err)
	for id := range tests {
		slices.Sort(tests[id])
		tests[id] = slices.Compact(tests[id])
	}
	return tests
}

// collect adds the tests of one file.
func collect(path string, tests map[string][]string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		for _, id := range idsIn(f) {
			tests[id] = append(tests[id], f.Name.Name)
		}
	}
	return nil
}

// idsIn returns the ids in the name of a function and in the names of sub-tests that its body spells out.
func idsIn(f *ast.FuncDecl) (ids []string) {
	ids = idsOfName(f.Name.Name)
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if m := idOfSubtest.FindStringSubmatch(text); err == nil && m != nil {
				ids = append(ids, m[1])
			}
		}
		return true
	})
	return ids
}

// idsOfName returns the ids with which the name of a test begins.
func idsOfName(name string) (ids []string) {
	start := prefix.FindString(name)
	if start == "" {
		return nil
	}
	name = name[len(start):]
	for m := idOfTest.FindStringSubmatch(name); m != nil; m = idOfTest.FindStringSubmatch(name) {
		ids = append(ids, m[1])
		_, name, _ = strings.Cut(name, m[1])
	}
	return ids
}

func TestEveryFaultThatATestNamesIsListed(t *testing.T) {
	faults, _ := readList(t)
	for id, tests := range testsOf(t) {
		listed := slices.ContainsFunc(faults, func(f fault) bool { return f.id == id })
		assert.True(t, listed, "%s is not in docs/faults.md, but in the name of %v", id, tests)
	}
}

func TestEveryFaultThatIsListedHasATest(t *testing.T) {
	faults, page := readList(t)
	require.NotEmpty(t, faults)
	tests := testsOf(t)
	if *update {
		faults = rewrite(t, faults, page, tests)
	}
	var seen []string
	for _, f := range faults {
		assert.NotContains(t, seen, f.id, "listed twice")
		seen = append(seen, f.id)
		assert.NotEmpty(t, f.tests, "%s has no test in docs/faults.md: run this test with -update", f.id)
		for _, name := range f.tests {
			assert.Contains(t, tests[f.id], name, "is said to prove %s: run this test with -update", f.id)
		}
	}
}

// rewrite puts the names of the tests into the list.
func rewrite(t *testing.T, faults []fault, page string, tests map[string][]string) []fault {
	t.Helper()
	for i, f := range faults {
		text, _, _ := strings.Cut(f.text, "\n  Tests: ")
		faults[i].tests = nil
		if names := runnable(tests[f.id]); len(names) > 0 {
			faults[i].tests = names
			text = strings.TrimRight(text, "\n") + "\n" + wrap(names)
		}
		page = strings.Replace(page, f.text, text, 1)
	}
	require.NoError(t, os.WriteFile(list, []byte(page), 0o644))
	return faults
}

// runnable returns the names that are not those of helpers with a table of sub-tests.
func runnable(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz")
	})
}

// wrap writes names in lines of at most 110 columns.
func wrap(names []string) string {
	const width = 110
	var b strings.Builder
	line := "  Tests:"
	for i, name := range names {
		word := " `" + name + "`"
		if i < len(names)-1 {
			word += ","
		}
		if len(line)+len(word) > width {
			b.WriteString(line + "\n")
			line = " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

func TestIDsAreFoundInNames(t *testing.T) {
	for name, want := range map[string][]string{
		"TestN1ConnectionBreaks":        {"N1"},
		"TestN1N2N36DownloadSurvives":   {"N1", "N2", "N36"},
		"TestN32AndN33NoConnection":     {"N32", "N33"},
		"TestUploadN20TemporaryStatus":  {"N20"},
		"TestS3":                        {"S3"},
		"TestA401IsAnsweredWithAToken":  nil,
		"TestSentOnceAfterA500":         nil,
		"TestABlobThatIsNotThereIsA404": nil,
		"FuzzI12Challenge":              {"I12"},
	} {
		body := &ast.BlockStmt{}
		assert.Equal(t, want, idsIn(&ast.FuncDecl{Name: ast.NewIdent(name), Body: body}), name)
	}
	lit := &ast.BasicLit{Kind: token.STRING, Value: `"U4 no host"`}
	body := &ast.BlockStmt{List: []ast.Stmt{&ast.ExprStmt{X: lit}}}
	assert.Equal(t, []string{"U4"}, idsIn(&ast.FuncDecl{Name: ast.NewIdent("places"), Body: body}))
}
