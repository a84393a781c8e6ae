package push_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/push"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// tableInCode returns the rows of the table as they stand in the code, with the names of what they have.
func tableInCode(t *testing.T) (rows [][]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "table.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "table" {
			return true
		}
		for _, row := range spec.Values[0].(*ast.CompositeLit).Elts {
			var names []string
			for _, cell := range row.(*ast.CompositeLit).Elts {
				names = append(names, strings.ReplaceAll(strings.Join(identifiers(cell), " "), "nil", "-"))
			}
			rows = append(rows, names)
		}
		return false
	})
	return rows
}

// identifiers are those of an expression, in their order.
func identifiers(e ast.Expr) (names []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names = append(names, id.Name)
		}
		return true
	})
	return names
}

// The package comment is the table.
func TestTableOfThePackageComment(t *testing.T) {
	const mode = parser.ParseComments | parser.PackageClauseOnly
	file, err := parser.ParseFile(token.NewFileSet(), "push.go", nil, mode)
	require.NoError(t, err)
	_, doc, found := strings.Cut(file.Doc.Text(), "next        attempt\n")
	require.True(t, found)
	doc, _, _ = strings.Cut(doc, "\n\n")
	var rows [][]string
	for line := range strings.Lines(doc + "\n") {
		var row []string
		for cell := range strings.SplitSeq(strings.TrimSpace(line), "  ") {
			if cell = strings.TrimSpace(cell); cell != "" {
				row = append(row, cell)
			}
		}
		rows = append(rows, row)
	}
	assert.Equal(t, tableInCode(t), rows)
	assert.Len(t, rows, push.Rows())
}

// rowCase is an upload that needs a row of the table.
type rowCase struct {
	row   string // its places and its outcome
	size  int
	from  string
	setUp func(w *world, b blob)
	asked string // of the registry; a session that is asked several times in a row counts once
}

// faults has requests of a method go wrong, as pairs of a method and a script say.
func faults(pairs ...string) func(*world, blob) {
	return func(w *world, _ blob) {
		for pair := range slices.Chunk(pairs, 2) {
			w.reg.Fault(pair[0], "", pair[1])
		}
	}
}

// cdn has the registry send bodies to a store, where PUT goes wrong.
func cdn(script string) func(*world, blob) {
	return func(w *world, _ blob) {
		store := w.reg.CDN()
		at := w.net.Serve("cdn.test", store, w.mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = registrytest.To(at) })
		store.Fault("PUT", "", script)
	}
}

// have has a repository have the blob.
func have(repo string) func(*world, blob) {
	return func(w *world, b blob) { w.stored(repo, b) }
}

func maxBody(n int64) func(*world, blob) {
	return func(w *world, _ blob) { w.reg.Configure(func(o *registrytest.Options) { o.MaxBody = n }) }
}

func ollamaStore(set func(s *store)) func(*world, blob) {
	return func(w *world, _ blob) { set(w.newStore()) }
}

const small, medium, large = 1000, 3 << 20, 9 << 20

var rowCases = []rowCase{
	{"choosing unasked", medium, "", faults(), "HEAD POST PUT"},
	{"choosing mountable", medium, "library/other", have("library/other"), "POST"},
	{"choosing recovering noSession", medium, "", faults(), "HEAD POST PUT"},
	{"choosing recovering notAsked", large, "", faults("PUT", "reset(5M)"),
		"HEAD POST PUT HEAD GET PATCH PUT"},
	{"choosing recovering nextBody", medium, "library/other", faults("POST", "202(location: /v2/x)"),
		"POST HEAD PUT DELETE HEAD POST PUT"},
	{"recovering anew", medium, "", faults("PUT", "503"), "HEAD POST PUT HEAD DELETE POST PUT"},
	{"probing mounting there", medium, "", have(repository), "HEAD"},
	{"probing absent", medium, "", faults(), "HEAD POST PUT"},
	{"mounting refused", medium, "library/other", faults(), "POST HEAD PUT"},
	{"mounting opening lost", medium, "library/other", func(w *world, b blob) {
		have("library/other")(w, b)
		w.reg.Fault("POST", "mount", "503")
	}, "POST HEAD POST"},
	{"restoring has", large, "", faults("PUT", "reset(5M)"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"restoring growing", large, "", faults("PUT", "stallheaders"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"restoring forgotten", large, "", faults("PUT", "reset(5M)", "GET", "404"),
		"HEAD POST PUT HEAD GET DELETE HEAD POST PATCH PATCH PATCH PATCH PUT"},
	{"restoring away", large, "", func(w *world, _ blob) {
		dead := w.serve("dead.test", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		w.reg.Fault("POST", "", "202(location: "+dead+"/session)")
	}, "HEAD POST HEAD POST PATCH PUT"},
	{"opening accepted", medium, "", faults(), "HEAD POST PUT"},
	{"opening chunks misbegun", medium, "", ollamaStore(func(s *store) { s.late = true }),
		"HEAD POST PUT PATCH DELETE POST PATCH PUT"},
	{"opening refused", small, "", faults("POST", "400"), "HEAD POST POST PUT"},
	{"opening bodies stored", medium, "", faults(), "HEAD POST PUT"},
	{"opening bodies doubtful", medium, "", faults("PUT", "swallow+200"), "HEAD POST PUT HEAD"},
	{"confirming unread", medium, "", faults("PUT", "201"), "HEAD POST PUT HEAD DELETE POST PATCH PUT"},
	{"confirming recovering there", medium, "", faults("PUT", "swallow+200"), "HEAD POST PUT HEAD"},
	{"chunks parts taken", medium, "", maxBody(2 << 20), "HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"chunks redirected", medium, "library/other", func(w *world, _ blob) {
		s := w.newStore()
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			s.late = !r.URL.Query().Has("mount") // what a mount shows makes the POST tell the digest
			return s.registry(rw, r)
		})
	}, "POST DELETE HEAD POST PUT PATCH PATCH PUT"},
	{"chunks direct parts recovering complete", medium, "", maxBody(2 << 20),
		"HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"bodies lost", medium, "", faults("PUT", "503"), "HEAD POST PUT HEAD DELETE POST PUT"},
	{"bodies timedOut", medium, "", faults("PUT", "413->504"),
		"HEAD POST PUT PATCH PUT HEAD DELETE POST PATCH PUT"},
	{"whole tooLarge late", medium, "", faults("PUT", "swallow+413"), "HEAD POST PUT HEAD"},
	{"whole tooLarge", medium, "", faults("PUT", "413"), "HEAD POST PUT PATCH PUT"},
	{"chunks tooLarge late", large, "", faults("PUT", "413", "PATCH", "swallow+413"),
		"HEAD POST PUT PATCH GET PUT"},
	{"chunks tooLarge", medium, "", faults("PUT", "413", "PATCH", "413"),
		"HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"whole chunks expired late", medium, "", cdn("swallow+403"), "HEAD POST PUT HEAD"},
	{"whole chunks expired", medium, "", cdn("403"), "HEAD POST PUT PUT"},
	{"direct parts expired", medium, "", ollamaStore(func(s *store) { s.direct, s.denied = true, 2 }),
		"HEAD POST DELETE POST DELETE POST PUT"},
	{"bodies conflict", large, "", faults("PUT", "413->504->409"),
		"HEAD POST PUT PATCH PUT HEAD GET PUT HEAD GET PUT"},
	{"whole unfit late", medium, "", faults("PUT", "read+405"), "HEAD POST PUT DELETE POST PATCH PUT"},
	{"whole unfit", medium, "", faults("PUT", "405"), "HEAD POST PUT PATCH PUT"},
	{"chunks unfit", large, "", faults("PUT", "reset(1M)", "PATCH", "400"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH PATCH PUT"},
	{"chunks stepped", large, "", faults("PUT", "reset(1M)", "PATCH", "416"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH PATCH PUT"},
	{"chunks unfitAll", large, "", faults("PUT", "reset(1M)", "PATCH", "**416"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH GET PATCH DELETE HEAD POST PUT"},
	{"bodies outOfStep", large, "", faults("PUT", "416"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"bodies unknown", medium, "", faults("PUT", "404"), "HEAD POST PUT DELETE HEAD POST PUT"},
	{"bodies otherDigest", medium, "", faults("PUT", `says(400, {"errors":[{"code":"DIGEST_INVALID"}]})`),
		"HEAD POST PUT DELETE POST PUT"},
	{"chunks direct parts unread", medium, "", faults("PUT", "413", "PATCH", "202"),
		"HEAD POST PUT PATCH DELETE POST PATCH PUT"},
}

// upload pushes a blob, and returns what was asked, and whether the registry has the blob and how often it
// seemed to be overloaded.
func (c rowCase) upload(t *testing.T, mode registrytest.Mode) (asked, end string) {
	w := newWorld(t, mode, registrytest.Options{})
	w.timeout = time.Minute
	b := w.local(c.size)
	c.setUp(w, b)
	err := w.push(b, c.from)
	w.reg.Wait()
	polls := func(a, b string) bool { return a == b && a == http.MethodGet }
	return strings.Join(slices.CompactFunc(strings.Fields(w.asked()), polls), " "),
		fmt.Sprint(err == nil, w.reg.Has(repository, b.digest), w.overloads.Load())
}

// Each row of the table is needed: an upload goes another way, or to another end, where it is taken out.
func TestRowsOfTheTable(t *testing.T) {
	rows := tableInCode(t)
	require.Len(t, rowCases, len(rows))
	for i, c := range rowCases {
		t.Run(c.row, func(t *testing.T) {
			require.Equal(t, rows[i][0]+" "+rows[i][1], c.row)
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				asked, end := c.upload(t, mode)
				assert.Equal(t, c.asked, asked)
				assert.True(t, strings.HasPrefix(end, "true true"), end)
				defer push.TakeOut(i)()
				less, other := c.upload(t, mode)
				assert.NotEqual(t, asked+end, less+other, "the row is not needed")
			})
		})
	}
}
