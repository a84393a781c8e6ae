package registry_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestTags(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		want := []string{"1.0", "2.0", "latest"}
		for _, tag := range want {
			w.put(tag, "weights")
		}
		w.reg.Fault("GET", "/tags/list", "503->reset->ok")
		repo := w.open(person)
		tags, err := repo.Tags(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, tags)
		assert.Equal(t, []string{pullScope}, w.tokens.asked()[0].scopes)
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Fault("GET", "/tags/list", "**404")
		_, err := w.open().Tags(t.Context())
		requireStatus(t, err, 404)
	})
}

func TestTagsOnSeveralPages(t *testing.T) {
	const path = "/v2/library/model/tags/list"
	tags := []string{"a", "b", "c", "d", "e"}
	for name, link := range map[string]string{
		"relative":                     `<` + path + `?at=AT>; rel="next"`,
		"query only":                   `<?at=AT>; rel=next`,
		"absolute":                     `<BASE` + path + `?at=AT>; REL="next"`,
		"among others":                 `</x>; rel="prev", <?at=AT>; title="x"; rel="next"`,
		"G1 a comma in the cursor":     `<?x=a,b&at=AT>; rel="next"`,
		"G1 several relations":         `<?at=AT>; rel="next last"`,
		"G1 a quoted parameter first":  `<?at=AT>; title="a, b; c"; rel="next"`,
		"G1 the scheme behind a proxy": `<http://registry.test` + path + `?at=AT>; rel=next`,
		"G1 the prefix before a proxy": `</other` + path + `?at=AT>; rel=next`,
		"another header":               `</x>; rel="first"|<?at=AT>;rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
					at, _ := strconv.Atoi(r.FormValue("at"))
					if at+2 < len(tags) {
						known := strings.NewReplacer("AT", strconv.Itoa(at+2), "BASE", w.url)
						for value := range strings.SplitSeq(known.Replace(link), "|") {
							rw.Header().Add("Link", value)
						}
					}
					fmt.Fprintf(rw, `{"tags":["%s"]}`, strings.Join(tags[at:min(at+2, len(tags))], `","`))
				})
				got, err := w.open().Tags(t.Context())
				require.NoError(t, err)
				assert.Equal(t, tags, got)
				assert.Equal(t, 3, w.reg.Count("GET", path))
			})
		})
	}
}

func TestTagsThatNeverEnd(t *testing.T) {
	for name, body := range map[string]string{
		"empty pages": `{"tags":[]}`, "no tags": `{"tags":null}`,
		"full pages": `{"tags":["` + strings.Repeat(`x","`, 1000) + `x"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
					at, _ := strconv.Atoi(r.FormValue("at")) // no page comes again
					rw.Header().Set("Link", fmt.Sprintf(`<?at=%d>; rel="next"`, at+1))
					fmt.Fprint(rw, body)
				})
				_, err := w.open().Tags(t.Context())
				require.ErrorIs(t, err, transfer.ErrProtocol)
				assert.LessOrEqual(t, w.reg.Count("", ""), 1000)
				assert.LessOrEqual(t, w.reg.BytesSent(), int64(1<<20), "100,000 tags are enough")
			})
		})
	}
}

func TestU15PageInsteadOfTags(t *testing.T) {
	for _, body := range []string{page, "", `["a"]`, `{"tags":[1]}`, `{"tags":`, `null`} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.answers("GET", func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, body) })
			begun := time.Now()
			_, err := w.open().Tags(t.Context())
			require.ErrorIs(t, err, transfer.ErrProtocol, "%s", body)
			assert.Less(t, time.Since(begun), noBackoff)
		})
	}
}

// The token stays at the registry, wherever the list leads.
func TestTagsThatLeadElsewhere(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights")
		other := registrytest.New(registrytest.Options{})
		url := w.net.Serve("other.test", other, mode).URL
		w.reg.Fault("GET", "/tags/list", `ok->header(Link: <`+url+`/v2/library/model/tags/list>; rel=next)`)
		_, err := w.open(person).Tags(t.Context())
		require.NoError(t, err)
		require.Len(t, other.Requests(), 1)
		assert.Empty(t, other.Requests()[0].Header.Get("Authorization"))
	})
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.put("latest", "weights")
		w.reg.Fault("GET", "/tags/list", `header(Link: <ftp://other.test/>; rel=next)`)
		_, err := w.open().Tags(t.Context())
		require.ErrorIs(t, err, transfer.ErrRedirectRefused)
	})
}

// What cannot be read is no last page.
func TestG1PageThatCannotBeRead(t *testing.T) {
	for _, link := range []string{`<?at=2; rel=next`, `<?at=2>; rel="next`, `<?at=2>`, `?at=2; rel=next`} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Link", link)
				fmt.Fprint(rw, `{"tags":["a"]}`)
			})
			_, err := w.open().Tags(t.Context())
			require.ErrorIs(t, err, transfer.ErrProtocol, link)
			assert.Len(t, w.reg.Requests(), 1)
		})
	}
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, `{"name":"library/model"}`)
		})
		_, err := w.open().Tags(t.Context())
		require.ErrorIs(t, err, transfer.ErrProtocol, "no list is no empty list")
	})
}

func TestE18PageThatComesAgain(t *testing.T) {
	for name, next := range map[string]func(at int) int{
		"itself": func(at int) int { return at }, "a circle": func(at int) int { return (at + 1) % 3 },
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
					at, _ := strconv.Atoi(r.FormValue("at"))
					rw.Header().Set("Link", fmt.Sprintf(`<?at=%d>; rel="next"`, next(at)))
					fmt.Fprint(rw, `{"tags":["a"]}`)
				})
				_, err := w.open().Tags(t.Context())
				require.ErrorIs(t, err, transfer.ErrProtocol)
				assert.LessOrEqual(t, len(w.reg.Requests()), 4)
			})
		})
	}
}

func TestAllTagsPageByPage(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.answers("GET", func(rw http.ResponseWriter, r *http.Request) {
			at, _ := strconv.Atoi(r.FormValue("at"))
			if at == 4 {
				rw.WriteHeader(http.StatusNotFound)
				return
			}
			rw.Header().Set("Link", fmt.Sprintf(`<?at=%d>; rel="next"`, at+1))
			fmt.Fprintf(rw, `{"tags":["%d-a","%d-b"]}`, at, at)
		})
		repo := w.open()
		var got []string
		for tag, err := range repo.AllTags(t.Context()) {
			require.NoError(t, err)
			got = append(got, tag)
			pages := (len(got) + 1) / 2
			assert.Len(t, w.reg.Requests(), pages, "the next page is asked for when this one was taken")
			if len(got) == 3 {
				break
			}
		}
		assert.Equal(t, []string{"0-a", "0-b", "1-a"}, got)

		var last error
		n := 0
		for tag, err := range repo.AllTags(t.Context()) {
			require.NoError(t, last, "an error is the last pair")
			if last = err; err == nil {
				n++
			} else {
				assert.Empty(t, tag)
			}
		}
		requireStatus(t, last, 404)
		assert.Equal(t, 8, n)
	})
}

func TestRepositories(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		var want []string
		for i := range 150 { // a page and a half
			want = append(want, fmt.Sprintf("model/%03d", i))
			w.reg.Put(want[i], nil)
		}
		w.reg.Configure(func(o *registrytest.Options) {
			o.Challenge = fmt.Sprintf(`Bearer realm=%q,service="s",scope="registry:catalog:*"`, w.realm)
			o.CheckToken = func(r *http.Request) bool { return w.tokens.knows(r.Header.Get("Authorization")) }
		})
		opts := registry.Options{BaseURL: w.url, Client: w.net.Client()}
		person(&opts)
		var got []string
		for name, err := range registry.Repositories(t.Context(), opts) {
			require.NoError(t, err)
			got = append(got, name)
		}
		assert.Equal(t, want, got)
		assert.Equal(t, 3, w.reg.Count("GET", "/v2/_catalog"), "a refusal and two pages")
		assert.Equal(t, []string{"registry:catalog:*"}, w.tokens.asked()[0].scopes)
	})
	for _, err := range registry.Repositories(t.Context(), registry.Options{}) {
		require.ErrorIs(t, err, transfer.ErrInvalidOption)
	}
}
