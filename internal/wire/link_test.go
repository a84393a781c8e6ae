package wire

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestG1NextLink(t *testing.T) {
	for value, want := range map[string]string{
		`</x?last=a>; rel="next"`:                              "/x?last=a",
		`</x?last=a,b,c>; rel="next"`:                          "/x?last=a,b,c",
		`</x?last=a;b>; rel=next`:                              "/x?last=a;b",
		`</x>; rel="next last"`:                                "/x",
		`</x>; rel="last NEXT"`:                                "/x",
		`</x>; title="a, <b>; rel=prev"; REL = "next"`:         "/x",
		`</x>; title="a \" rel=\"prev\""; rel="next"`:          "/x",
		`</x>; rel=next; rel=prev`:                             "/x",
		`</x>;;rel=next;`:                                      "/x",
		`</x>; crossorigin; rel=next`:                          "/x",
		`</p>; rel="prev", </x>; rel=next, </l>; rel=last`:     "/x",
		`</a.css>; rel=preload; as=style,</x>;rel="next"`:      "/x",
		`, ,</x>;rel=next,`:                                    "/x",
		`</x>;rel=next, </x>;rel="next"`:                       "/x",
		`</p>; rel="prev"`:                                     "",
		`</x>; rel="nextpage"`:                                 "",
		`</x>; title="rel=next"; rel=prev; x="</y>; rel=next"`: "",
		``: "",
	} {
		got, err := NextLink(http.Header{"Link": {value}})
		require.NoError(t, err, value)
		assert.Equal(t, want, got, value)
	}
	got, err := NextLink(http.Header{"Link": {`</p>; rel=prev`, `</x>; rel=next`}})
	require.NoError(t, err)
	assert.Equal(t, "/x", got)
	got, err = NextLink(nil)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestG1LinkThatCannotBeRead(t *testing.T) {
	for _, value := range []string{
		`/x; rel=next`, `</x; rel=next`, `</x>; rel="next`, `</x> rel=next`, `</x>`, `</x>; title="x"`,
		`next`,
		`<>; rel=next`, `</p>; rel=prev, /x; rel=next`, `</x>; rel=next, </y>; rel=next`, `"</x>; rel=next"`,
		`rel="next"; </x>`,
	} {
		_, err := NextLink(http.Header{"Link": {value}})
		require.ErrorIs(t, err, errLink, value)
	}
}

func FuzzG1NextLink(f *testing.F) {
	f.Add(`</x?last=a,b>; rel="next last"`)
	f.Add(` >0`) // ends before it begins
	f.Add(`</x>; title="a \" rel=\"prev\""; rel="next", <`)
	f.Fuzz(func(t *testing.T, value string) {
		next, err := NextLink(http.Header{"Link": {value}})
		if err == nil && !strings.Contains(value, next) {
			t.Errorf("%q: %q was not there", value, next)
		}
	})
}

func TestG1NextPage(t *testing.T) {
	const list = "https://registry.example/prefix/v2/a/b/tags/list"
	for link, want := range map[string]string{
		"?last=x":                                           list + "?last=x",
		"/prefix/v2/a/b/tags/list?last=x":                   list + "?last=x",
		"/v2/a/b/tags/list?last=x":                          list + "?last=x", // without the proxy's prefix
		"http://registry.example/v2/a/b/tags/list?n=1":      list + "?n=1",
		"http://registry.example:5000/v2/a/b/tags/list?n=1": list + "?n=1",
		"https://other.example/v2/a/b/tags/list?n=1":        "https://other.example/v2/a/b/tags/list?n=1",
		"/more?last=x":                                      "https://registry.example/more?last=x",
	} {
		manifest := mustParse(t, "https://registry.example/prefix").Manifest("a/b", "x")
		page, err := manifest.Resolve("../tags/list?n=7")
		require.NoError(t, err)
		next, err := page.NextPage(link)
		require.NoError(t, err, link)
		assert.Equal(t, want, next.URL.String(), link)
		assert.Equal(t, strings.Contains(want, "other.example"), next.Left)
	}
	page := mustParse(t, "https://registry.example").Manifest("a/b", "x")
	for _, link := range []string{
		"http://registry.example/x", "ftp://x.example/", "http://other.example/v2/a/b/manifests/x", "%zz\n",
		"https://user@registry.example/v2/a/b/manifests/x", "ftp://registry.example/v2/a/b/manifests/x",
	} {
		_, err := page.NextPage(link)
		require.ErrorIs(t, err, ErrRedirectRefused, link)
	}
	elsewhere, err := page.Resolve("https://other.example/v2/a/b/manifests/x")
	require.NoError(t, err)
	_, err = elsewhere.NextPage("http://other.example/v2/a/b/manifests/x?n=1")
	require.ErrorIs(t, err, ErrRedirectRefused, "only the registry may not know its scheme")
}
