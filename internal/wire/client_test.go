package wire

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// elsewhere is where a chain has led that began at the registry.
func elsewhere(t *testing.T, registry, place string) Target {
	u, err := url.Parse(place)
	require.NoError(t, err)
	return Target{URL: u, Left: true, registry: mustParse(t, registry)}
}

// get asks for a target.
func get(t *testing.T, c *Client, target Target) (*Response, error) {
	t.Helper()
	return follow(t, c, Request{Method: http.MethodGet, Target: target})
}

// follow sends a request, and follows redirects.
func follow(t *testing.T, c *Client, r Request) (*Response, error) {
	t.Helper()
	for {
		resp, err := c.Send(t.Context(), r)
		if err != nil {
			return nil, err
		}
		if again, err := r.Follow(resp); !again || err != nil {
			return resp, err
		}
	}
}

func TestU5AddressIsCheckedWhenItIsDialled(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for name, c := range map[string]struct {
		registry, place string
		refused         bool
	}{
		"loopback from a public registry":       {"https://192.0.2.1", "http://127.0.0.1" + port, true},
		"a name of this machine":                {"https://192.0.2.1", "http://localhost" + port, true},
		"loopback from a registry on this link": {"https://169.254.1.1", "http://127.0.0.1" + port, true},
		"loopback from loopback":                {"http://127.0.0.1:1", "http://127.0.0.1" + port, false},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := NewClient(nil, "test", 1)
			defer c2.Close()
			resp, err := get(t, c2, elsewhere(t, c.registry, c.place))
			if c.refused {
				require.ErrorIs(t, err, ErrRedirectRefused)
				return
			}
			require.NoError(t, err)
			resp.Discard()
		})
	}
}

// The registry itself may be anywhere: the user has chosen it.
func TestU5RegistryOnThisMachineIsDialled(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	c := NewClient(nil, "test", 1)
	defer c.Close()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	public := mustParse(t, "https://192.0.2.1")
	resp, err := get(t, c, Target{URL: u, registry: public})
	require.NoError(t, err)
	resp.Discard()
}

// Behind a proxy on this machine, the address that is dialled says nothing of the place.
func TestU5ProxyOnThisMachineIsDialled(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer proxy.Close()
	c := NewClient(nil, "test", 1)
	defer c.Close()
	u, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	c.own.Proxy = http.ProxyURL(u)
	resp, err := get(t, c, elsewhere(t, "https://192.0.2.1", "http://cdn.invalid/x"))
	require.NoError(t, err)
	resp.Discard()
}

// resolver answers every question with one IPv4 address.
func resolver(t *testing.T, ip [4]byte) {
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	dial := func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			var length [2]byte // a stream, so each message has its length before it (RFC 1035 section 4.2.2)
			if _, err := io.ReadFull(there, length[:]); err != nil {
				return
			}
			query := make([]byte, int(length[0])<<8|int(length[1]))
			if _, err := io.ReadFull(there, query); err != nil {
				return
			}
			end := 12 // of the question, behind the header
			for query[end] != 0 {
				end += int(query[end]) + 1
			}
			end += 5
			answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
			if query[end-3] == 1 { // it asks for IPv4
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ip[0], ip[1], ip[2], ip[3])
			}
			_, _ = there.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
		}()
		return here, nil
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: dial}
}

// A registry whose name stands for this machine may lead to this machine.
func TestU5NameOfTheRegistryIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		ip   [4]byte
		want reach
	}{
		"this machine": {[4]byte{127, 0, 0, 1}, reachMachine},
		"this link":    {[4]byte{169, 254, 1, 1}, reachLink},
		"elsewhere":    {[4]byte{192, 0, 2, 1}, reachAny},
	} {
		t.Run(name, func(t *testing.T) {
			resolver(t, c.ip)
			r := mustParse(t, "http://registry.invalid")
			for to, want := range map[string]bool{
				"http://127.0.0.1/":   c.want == reachMachine,
				"http://169.254.9.9/": c.want == reachLink,
				"http://10.0.0.1/":    true,
			} {
				_, err := r.Blob("a", "sha256:x").Resolve(to)
				assert.Equal(t, want, err == nil, "%s: %v", to, err)
			}
		})
	}
}

// emptyAndLast ends the header of an answer.
const emptyAndLast = "Content-Length: 0\r\nConnection: close\r\n\r\n"

// piped is a client of its own whose connections a function serves.
func piped(serve func(net.Conn)) *Client {
	c := NewClient(nil, "test", 1)
	c.own.Proxy = nil
	c.own.DialContext = func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			serve(there)
		}()
		return here, nil
	}
	return c
}

// unaware answers to a request when it has the body.
func unaware(in *bufio.Reader, out io.Writer) (body int64) {
	req, err := http.ReadRequest(in)
	if err != nil {
		return 0
	}
	body, _ = io.Copy(io.Discard, req.Body)
	_, _ = io.WriteString(out, "HTTP/1.1 201 Created\r\n"+emptyAndLast)
	return body
}

// refusing answers to a request half a second after its header.
func refusing(in *bufio.Reader, out io.Writer) (body int64) {
	if _, err := http.ReadRequest(in); err != nil {
		return 0
	}
	time.Sleep(500 * time.Millisecond)
	_, _ = io.WriteString(out, "HTTP/1.1 403 Forbidden\r\n"+emptyAndLast)
	return int64(in.Buffered())
}

// N39: a registry that does not know Expect gets the body after a second, and one that answers before that
// does not get it.
func TestN39BodyIsNotHeldBackForEver(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(*bufio.Reader, io.Writer) int64
		took  time.Duration
		body  int64
	}{
		"knows nothing of it": {unaware, time.Second, 4},
		"refuses":             {refusing, 500 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testExpect(t, c.serve, c.took, c.body) })
		})
	}
}

func testExpect(t *testing.T, serve func(*bufio.Reader, io.Writer) int64, took time.Duration, want int64) {
	var got int64
	client := piped(func(conn net.Conn) { got = serve(bufio.NewReader(conn), conn) })
	defer client.Close()
	begun := time.Now()
	resp, err := client.Send(t.Context(), Request{
		Method: http.MethodPut,
		Target: mustParse(t, "http://registry.test").Blob("a", "sha256:x"),
		Header: http.Header{"Expect": {"100-continue"}},
		Length: 4,
		Body:   io.NopCloser(strings.NewReader("body")),
	})
	require.NoError(t, err)
	resp.Discard()
	assert.Equal(t, took, time.Since(begun))
	synctest.Wait()
	assert.Equal(t, want, got)
}

// transportOf is a RoundTripper in one function.
type transportOf func(*http.Request) (*http.Response, error)

func (f transportOf) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// I13: of a body that nobody wants little is read, and it is closed.
func TestI13BodyOfARedirectIsNotRead(t *testing.T) {
	body := &countingBody{}
	c := NewClient(&http.Client{Transport: transportOf(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/there" {
			return &http.Response{StatusCode: http.StatusOK}, nil
		}
		header := http.Header{"Location": {"/there"}}
		return &http.Response{StatusCode: http.StatusFound, Header: header, Body: body}, nil
	})}, "test", 1)
	resp, err := get(t, c, mustParse(t, "http://registry.test").Blob("a", "sha256:x"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.LessOrEqual(t, body.read, 64<<10)
	assert.True(t, body.closed)
}

// I15: the error of a transport quotes the URL, with all that is secret in it.
func TestI15ErrorOfATransportIsRedacted(t *testing.T) {
	c := NewClient(&http.Client{Transport: transportOf(func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: io.ErrUnexpectedEOF}
	})}, "test", 1)
	_, err := get(t, c, elsewhere(t, "http://registry.test", "http://cdn.test/x?sig=secret"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.NotContains(t, err.Error(), "secret")
	assert.Contains(t, err.Error(), "GET http://cdn.test/x?sig=***")
}

// cookieJar remembers what it was given.
type cookieJar struct{ set []*http.Cookie }

func (j *cookieJar) SetCookies(_ *url.URL, c []*http.Cookie) { j.set = append(j.set, c...) }

func (j *cookieJar) Cookies(*url.URL) []*http.Cookie { return j.set }

// N30: the caller's jar is used at the registry, and nowhere else.
func TestN30CookiesStayAtTheRegistry(t *testing.T) {
	var sent []string
	jar := &cookieJar{}
	transport := transportOf(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.Header.Get("Cookie"))
		header := http.Header{"Set-Cookie": {r.URL.Hostname() + "=1"}}
		return &http.Response{StatusCode: http.StatusOK, Header: header}, nil
	})
	c := NewClient(&http.Client{Jar: jar, Transport: transport}, "test", 1)
	here := mustParse(t, "http://registry.test").Blob("a", "sha256:x")
	for _, target := range []Target{here, here, elsewhere(t, "http://registry.test", "http://cdn.test/x")} {
		_, err := get(t, c, target)
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"", "registry.test=1", ""}, sent)
	for _, cookie := range jar.set {
		assert.Equal(t, "registry.test", cookie.Name)
	}
}

// A3: a token that is "Basic <base64>" is sent as that, and both kinds to the registry's origin only.
func TestA3TokenOfBasicAuthentication(t *testing.T) {
	next := map[string]string{"registry.test": "http://cdn.test/x", "cdn.test": "http://registry.test:8080/x"}
	for token, want := range map[string]string{
		"":                   "",
		"secret":             "Bearer secret",
		"Basic c2VjcmV0":     "Basic c2VjcmV0",
		"basic  c2VjcmV0 ":   "Basic c2VjcmV0",
		"Basic":              "Bearer Basic",
		"Basically c2VjcmV0": "Bearer Basically c2VjcmV0",
	} {
		sent := map[string]string{}
		c := NewClient(&http.Client{Transport: transportOf(func(r *http.Request) (*http.Response, error) {
			sent[r.URL.Host] = r.Header.Get("Authorization")
			if to, ok := next[r.URL.Host]; ok {
				header := http.Header{"Location": {to}}
				return &http.Response{StatusCode: http.StatusFound, Header: header}, nil
			}
			return &http.Response{StatusCode: http.StatusOK}, nil
		})}, "test", 1)
		target := mustParse(t, "http://registry.test").Blob("a", "sha256:x")
		_, err := follow(t, c, Request{Method: http.MethodGet, Target: target, Token: token})
		require.NoError(t, err)
		all := map[string]string{"registry.test": want, "cdn.test": "", "registry.test:8080": ""}
		assert.Equal(t, all, sent, "%q", token)
	}
}

func TestU22ResponseTellsWhoRedirected(t *testing.T) {
	next := map[string]string{
		"http://registry.test/v2/a/blobs/sha256:x": "/here",
		"http://registry.test/here":                "http://cdn.test/1",
		"http://cdn.test/1":                        "/2",
	}
	c := NewClient(&http.Client{Transport: transportOf(func(r *http.Request) (*http.Response, error) {
		header := http.Header{"From": {r.URL.String()}}
		if to := next[r.URL.String()]; to != "" {
			header.Set("Location", to)
			return &http.Response{StatusCode: http.StatusFound, Header: header}, nil
		}
		return &http.Response{StatusCode: http.StatusForbidden, Header: header}, nil
	})}, "test", 1)
	r := mustParse(t, "http://registry.test")
	resp, err := follow(t, c, Request{Method: http.MethodHead, Target: r.Blob("a", "sha256:x")})
	require.NoError(t, err)
	assert.Equal(t, "http://registry.test/here", resp.referral.Get("From"))

	resp, err = follow(t, c, Request{Method: http.MethodHead, Target: r.Blob("b", "sha256:x")})
	require.NoError(t, err)
	assert.Nil(t, resp.referral)
}

// What a caller's transport adds to the header of a request, though it should not, is not in the next one.
func TestHeadersOfRequestsAreTheirOwn(t *testing.T) {
	var sent []http.Header
	c := NewClient(&http.Client{Transport: transportOf(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.Header.Clone())
		for key := range r.Header {
			r.Header.Add(key, "added")
		}
		r.Header.Set("X-Added", "1")
		return &http.Response{StatusCode: http.StatusOK}, nil
	})}, "test", 1)
	r := Request{
		Method: http.MethodGet, Target: mustParse(t, "http://registry.test").Blob("a", "sha256:x"),
		Header: http.Header{"Range": {"bytes=0-1"}},
	}
	for range 2 {
		_, err := c.Send(t.Context(), r)
		require.NoError(t, err)
	}
	want := http.Header{"Range": {"bytes=0-1"}, "User-Agent": {"test"}, "Accept-Encoding": {"identity"}}
	assert.Equal(t, []http.Header{want, want}, sent)
}

// A connection that is idle or becomes so is not used where what came over it may have been wrong.
func TestE18RequestOverAConnectionOfItsOwn(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.RemoteAddr)
		}))
		server.EnableHTTP2 = h2
		server.StartTLS()
		t.Cleanup(server.Close)
		c := NewClient(server.Client(), "test", 1)
		t.Cleanup(c.Close)
		target := mustParse(t, server.URL).Uploads("a/b", nil)
		ask := func(newConn bool) string {
			r := Request{Method: http.MethodGet, Target: target, NewConn: newConn}
			resp, err := c.Send(t.Context(), r)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, h2, resp.ProtoMajor == 2)
			from, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return string(from)
		}
		first := ask(false)
		assert.Equal(t, first, ask(false))
		assert.NotEqual(t, first, ask(true))
		assert.Equal(t, first, ask(false), "the others stay")
	}
}

// Nothing is left of the dial of a connection of its own that a request did not wait for.
func TestN8DialEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		c := NewClient(&http.Client{Transport: mute}, "test", 1)
		target := mustParse(t, "https://registry.test").Blob("a", "sha256:x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Send(ctx, Request{Method: http.MethodGet, Target: target, NewConn: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
