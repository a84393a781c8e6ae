package push_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
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
}

// rowCase is an upload that needs a row of the table.
type rowCase struct {
	row   string // one of its places, and its outcome
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

// cdn lets the registry send bodies to a store, where requests go wrong.
func cdn(method, script string) func(*world, blob) {
	return func(w *world, _ blob) {
		store := w.reg.CDN()
		at := w.net.Serve("cdn.test", store, w.mode).URL
		w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = registrytest.To(at) })
		store.Fault(method, "", script)
	}
}

// hasty lets the store take a body that it has not read, once.
func hasty(direct bool) func(*world, blob) {
	return func(w *world, _ blob) {
		s := w.newStore()
		s.direct = direct
		var hurried atomic.Bool
		s.url = w.serve("hasty.test", func(rw http.ResponseWriter, r *http.Request) {
			if hurried.Swap(true) {
				s.serve(rw, r)
			}
		})
	}
}

// first answers the first request that one is, and passes the others on to the Ollama registry.
func first(
	one func(*http.Request) bool, answer func(w *world, b blob, rw http.ResponseWriter),
) func(*world, blob) {
	return func(w *world, b blob) {
		s := w.newStore()
		s.direct = true
		var answered atomic.Bool
		w.before(func(rw http.ResponseWriter, r *http.Request) bool {
			if !one(r) || answered.Swap(true) {
				return s.registry(rw, r)
			}
			answer(w, b, rw)
			return true
		})
	}
}

func both(one, other func(*world, blob)) func(*world, blob) {
	return func(w *world, b blob) {
		one(w, b)
		other(w, b)
	}
}

func earlier(w *world, b blob) { w.interrupted(b) }

func singleShot(w *world, _ blob) {
	w.reg.Configure(func(o *registrytest.Options) { o.SingleShot = true })
}

// have gives the blob to a repository.
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
	{"choosing noSession", medium, "", faults(), "HEAD POST PUT"},
	{"recovering noSession", large, "", faults("PUT", "reset(5M)", "GET", "404"),
		"HEAD POST PUT HEAD GET DELETE HEAD POST PATCH PATCH PATCH PATCH PUT"},
	{"choosing notAsked", largeSize, "", earlier, "HEAD POST PUT HEAD GET PATCH PUT"},
	{"recovering notAsked", large, "", faults("PUT", "reset(5M)"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"choosing nextBody", medium, "library/other", faults("POST", "202(location: /v2/x)"),
		"POST HEAD PUT DELETE HEAD POST PUT"},
	{"restoring nextBody", large, "", faults("PUT", "reset(5M)"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"opening nextBody", medium, "", faults(), "HEAD POST PUT"},
	{"chunks nextBody", medium, "", maxBody(2 << 20), "HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"parts nextBody", medium, "", ollamaStore(func(s *store) {}), "HEAD POST DELETE POST PATCH PUT"},
	{"recovering nextBody", medium, "", ollamaStore(func(s *store) { s.denied, s.code = 1, 503 }),
		"HEAD POST DELETE POST PATCH PATCH PUT"},
	{"recovering anew", medium, "", faults("PUT", "503"), "HEAD POST PUT HEAD DELETE POST PUT"},
	{"probing there", medium, "", have(repository), "HEAD"},
	{"mounting there", medium, "library/other", have("library/other"), "POST"},
	{"probing absent", medium, "", faults(), "HEAD POST PUT"},
	{"mounting refused", medium, "library/other", faults(), "POST HEAD PUT"},
	{"mounting lost", medium, "library/other", both(have("library/other"), faults("POST", "503")),
		"POST HEAD POST"},
	{"opening lost", small, "", faults("POST", "503"), "HEAD POST HEAD POST PUT"},
	{"restoring growing", large, "", faults("PUT", "stallheaders"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"restoring forgotten", large, "", faults("PUT", "reset(5M)", "GET", "404"),
		"HEAD POST PUT HEAD GET DELETE HEAD POST PATCH PATCH PATCH PATCH PUT"},
	{"restoring away", large, "", func(w *world, _ blob) {
		dead := w.serve("dead.test", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		w.reg.Fault("POST", "", "202(location: "+dead+"/session)")
	}, "HEAD POST HEAD POST PATCH PUT"},
	{"opening misbegun", medium, "", ollamaStore(func(s *store) {}), "HEAD POST DELETE POST PATCH PUT"},
	{"chunks misbegun", medium, "", ollamaStore(func(s *store) { s.late = true }),
		"HEAD POST PUT PATCH DELETE POST PATCH PUT"},
	{"opening refused", small, "", faults("POST", "400"), "HEAD POST POST PUT"},
	{"opening stored", small, "", singleShot, "HEAD POST"},
	{"whole stored", medium, "", faults(), "HEAD POST PUT"},
	{"opening doubtful", medium, "", first(tellsDigest, func(w *world, b blob, rw http.ResponseWriter) {
		w.stored(repository, b)
		rw.WriteHeader(http.StatusCreated)
	}), "HEAD POST DELETE POST HEAD"},
	{"whole doubtful", medium, "", faults("PUT", "swallow+200"), "HEAD POST PUT HEAD"},
	{"confirming unread", medium, "", faults("PUT", "201"), "HEAD POST PUT HEAD DELETE POST PATCH PUT"},
	{"confirming there", medium, "", faults("PUT", "swallow+200"), "HEAD POST PUT HEAD"},
	{"recovering there", medium, "", faults("PUT", "swallow+504"), "HEAD POST PUT HEAD"},
	{"chunks complete", medium, "", maxBody(2 << 20), "HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"direct complete", medium, "", ollamaStore(func(s *store) { s.direct = true }),
		"HEAD POST DELETE POST PUT"},
	{"parts complete", medium, "", ollamaStore(func(s *store) {}), "HEAD POST DELETE POST PATCH PUT"},
	{"recovering complete", medium, "", first(isPut, func(_ *world, _ blob, rw http.ResponseWriter) {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}), "HEAD POST DELETE POST PUT HEAD PUT"},
	{"whole lost", medium, "", faults("PUT", "503"), "HEAD POST PUT HEAD DELETE POST PUT"},
	{"chunks timedOut", medium, "", faults("PUT", "413->504"),
		"HEAD POST PUT PATCH PUT HEAD DELETE POST PATCH PUT"},
	{"whole tooLarge late", medium, "", faults("PUT", "swallow+413"), "HEAD POST PUT HEAD"},
	{"whole tooLarge", medium, "", faults("PUT", "413"), "HEAD POST PUT PATCH PUT"},
	{"chunks tooLarge late", large, "", faults("PUT", "413", "PATCH", "swallow+413"),
		"HEAD POST PUT PATCH GET PUT"},
	{"chunks tooLarge", medium, "", faults("PUT", "413", "PATCH", "413"),
		"HEAD POST PUT PATCH PATCH PATCH PUT"},
	{"whole expired late", medium, "", cdn("PUT", "swallow+403"), "HEAD POST PUT HEAD"},
	{"chunks expired late", large, "", both(cdn("PATCH", "swallow+403"), faults("PUT", "413")),
		"HEAD POST PUT PATCH GET PUT"},
	{"whole expired", medium, "", cdn("PUT", "403"), "HEAD POST PUT PUT"},
	{"chunks expired", large, "", both(cdn("PATCH", "403"), faults("PUT", "413")),
		"HEAD POST PUT PATCH PATCH"},
	{"direct expired", medium, "", ollamaStore(func(s *store) { s.direct, s.denied = true, 2 }),
		"HEAD POST DELETE POST DELETE POST PUT"},
	{"parts expired", medium, "", ollamaStore(func(s *store) { s.denied = 1 }),
		"HEAD POST DELETE POST PATCH PATCH PUT"},
	{"chunks conflict", large, "", faults("PUT", "413->504->409"),
		"HEAD POST PUT PATCH PUT HEAD GET PUT HEAD GET PUT"},
	{"whole unfit late", medium, "", faults("PUT", "read+405"), "HEAD POST PUT DELETE POST PATCH PUT"},
	{"whole unfit", medium, "", faults("PUT", "405"), "HEAD POST PUT PATCH PUT"},
	{"chunks unfit", large, "", faults("PUT", "reset(1M)", "PATCH", "400"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH PATCH PUT"},
	{"chunks stepped", large, "", faults("PUT", "reset(1M)", "PATCH", "416"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH PATCH PUT"},
	{"chunks unfitAll", large, "", faults("PUT", "reset(1M)", "PATCH", "**416"),
		"HEAD POST PUT HEAD GET PATCH GET PATCH GET PATCH DELETE HEAD POST PUT"},
	{"whole outOfStep", large, "", faults("PUT", "416"), "HEAD POST PUT HEAD GET PATCH PUT"},
	{"whole unknown", medium, "", faults("PUT", "404"), "HEAD POST PUT DELETE HEAD POST PUT"},
	{"whole otherDigest", medium, "", faults("PUT", `says(400, {"errors":[{"code":"DIGEST_INVALID"}]})`),
		"HEAD POST PUT DELETE POST PATCH PUT"},
	{"chunks unread", medium, "", faults("PUT", "413", "PATCH", "202"),
		"HEAD POST PUT PATCH DELETE POST PATCH PUT"},
	{"direct unread", medium, "", hasty(true), "HEAD POST DELETE POST DELETE POST PUT"},
	{"parts unread", medium, "", hasty(false), "HEAD POST DELETE POST PATCH PATCH PUT"},
}

func isPut(r *http.Request) bool { return r.Method == http.MethodPut }

func tellsDigest(r *http.Request) bool { return r.URL.Query().Has("digest") }

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

// rowOf returns the row for a place and an outcome, -1 where there is none.
func rowOf(rows [][]string, place, outcome string) int {
	return slices.IndexFunc(rows, func(row []string) bool {
		places := strings.ReplaceAll(row[0], "bodies", "whole chunks direct parts")
		return row[1] == outcome && slices.Contains(strings.Fields(places), place)
	})
}

// Each row of the table is needed at each of its places, if at one mode of bodies where it is for all: an
// upload goes another way, or to another end, where it is taken out.
func TestRowsOfTheTable(t *testing.T) {
	rows := tableInCode(t)
	left := make(map[string]bool)
	for _, row := range rows {
		for place := range strings.FieldsSeq(row[0]) {
			left[place+" "+row[1]] = true
		}
	}
	for _, c := range rowCases {
		place, outcome, _ := strings.Cut(c.row, " ")
		row := rowOf(rows, place, outcome)
		require.NotEqual(t, -1, row, c.row)
		delete(left, c.row)
		delete(left, "bodies "+outcome)
		t.Run(c.row, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				asked, end := c.upload(t, mode)
				assert.Equal(t, c.asked, asked)
				assert.True(t, strings.HasPrefix(end, "true true"), end)
				defer push.TakeOut(row, place)()
				less, other := c.upload(t, mode)
				assert.NotEqual(t, asked+end, less+other, "the row is not needed")
			})
		})
	}
	assert.Empty(t, left, "rows without a case")
}
