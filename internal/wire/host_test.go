package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hidden are hosts that mean this machine or a metadata service, and are written otherwise.
var hidden = []string{
	"１２７.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "169。254。169。254",
	"①②⑦.0.0.1", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "¹²⁷.0.0.1",
	"%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
	"ｌｏｃａｌｈｏｓｔ", "ⓛocalhost", "localhoſt", "local\u00adhost",
	"127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1",
	"017700000001", "0x7f.0.0x1", "0", "0x", "0.0.0.0",
	"127.0.0.1.", "127.1.", "localhost.", "LOCALHOST", "0.1.2.3",
	"2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376",
	"[::1%25lo]", "[fe80::1%25eth0]", "[2001:db8::1%25eth0]",
	"[::ffff:127.0.0.1%25lo]", "[::ffff:7f00:1]", "[::127.0.0.1]",
	"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]",
	"[fd00:ec2::254]", "[fd00:0ec2:0:0::254]", "[fd20:ce::254]",
	"100.100.100.200", "168.63.129.16", "192.0.0.192",
}

func TestI21HiddenHostsAreJudgedAsWhatTheyMean(t *testing.T) {
	r := mustParse(t, "https://registry.example")
	for _, host := range hidden {
		for _, port := range []string{"", ":443"} {
			_, err := r.Blob("a", "sha256:x").Resolve("https://" + host + port + "/x")
			if assert.ErrorIs(t, err, ErrRedirectRefused, "%s%s", host, port) {
				assert.ErrorContains(t, err, "an address of this machine or link")
			}
		}
		_, err := r.Blob("a", "sha256:x").Realm("https://" + host + "/token")
		assert.ErrorIs(t, err, ErrRedirectRefused, "realm %s", host)
	}
}

func TestI21MalformedHostsAreRefused(t *testing.T) {
	r := mustParse(t, "https://registry.example")
	for _, host := range []string{
		"1.2.3.4.5", "256.1", "1.256.1", "4294967296", "0x100000000", "cdn.09", "1..1", "0x7f.1.2.3.4",
		"a_é.example", "99999999999999999999999",
	} {
		_, err := r.Blob("a", "sha256:x").Resolve("https://" + host + "/x")
		assert.ErrorIs(t, err, ErrRedirectRefused, host)
	}
}

func TestI21OrdinaryHostsAreFollowed(t *testing.T) {
	r := mustParse(t, "https://registry.example")
	for host, want := range map[string]string{
		"cdn.example":           "cdn.example",
		"CDN.example.":          "CDN.example.",
		"1.example":             "1.example",
		"0x7f.example":          "0x7f.example",
		"deadbeef":              "deadbeef",
		"a.0xg":                 "a.0xg",
		"xn--gre-6ka8i.example": "xn--gre-6ka8i.example",
		"größe.example:8443":    "xn--gre-6ka8i.example:8443",
		"3232235777":            "192.168.1.1",
		"10.1:8080":             "10.0.0.1:8080",
		"100.100.100.201":       "100.100.100.201",
		"[2001:db8::1]:8443":    "[2001:db8::1]:8443",
		"[fd00::1]":             "[fd00::1]",
	} {
		next, err := r.Blob("a", "sha256:x").Resolve("https://" + host + "/x")
		if assert.NoError(t, err, host) {
			assert.Equal(t, want, next.URL.Host)
			assert.True(t, next.Left)
		}
	}
}

// A registry that the user has written in such a form stays its own origin.
func TestI21OriginInAnotherNotation(t *testing.T) {
	for _, base := range []string{"http://127.1:5000", "http://２130706433:5000", "http://0x7f000001:5000"} {
		r := mustParse(t, base)
		assert.Equal(t, "127.0.0.1:5000", r.Host())
		for _, location := range []string{"/x", base + "/x", "http://127.0.0.1:5000/x"} {
			next, err := r.Blob("a", "sha256:x").Resolve(location)
			require.NoError(t, err)
			assert.False(t, next.Left, "%s, %s", base, location)
		}
		_, err := r.Blob("a", "sha256:x").Resolve("http://169。254。169。254/")
		assert.ErrorIs(t, err, ErrRedirectRefused)
	}
}

// A name that the user has chosen may be one that nobody else would take.
func TestI21OriginThatIsNoAddress(t *testing.T) {
	r := mustParse(t, "http://registry.09:5000")
	next, err := r.Blob("a", "sha256:x").Resolve("http://registry.09:5000/x")
	require.NoError(t, err)
	assert.False(t, next.Left)
}

func TestU5AddressesAtDial(t *testing.T) {
	public, local := mustParse(t, "https://192.0.2.1"), mustParse(t, "http://localhost")
	for addr, want := range map[string]reach{
		"127.0.0.1": reachMachine, "::1": reachMachine, "::": reachMachine, "::ffff:127.0.0.1": reachMachine,
		"::1%lo": reachMachine, "0.1.2.3": reachMachine,
		"169.254.169.254": reachLink, "fe80::1": reachLink, "224.0.0.1": reachLink,
		"fd00:ec2::254": reachLink, "2001:db8::1%eth0": reachLink,
		"10.0.0.1": reachAny, "172.16.0.1": reachAny, "192.168.0.1": reachAny, "8.8.8.8": reachAny,
		"2001:db8::1": reachAny, "fd00:ec2::253": reachAny, "64:ff9b::808:808": reachAny,
		"2002:808:808::1": reachAny,
	} {
		got := addrReach(netip.MustParseAddr(addr))
		assert.Equal(t, want, got, addr)
		assert.Equal(t, want == reachAny, public.mayReach(got), addr)
		assert.Equal(t, want != reachLink, local.mayReach(got), addr)
	}
}

// aliased dials one server whatever the name is, as a resolver that was told lies does.
func aliased(server *httptest.Server) dialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
}

func withoutContext(dial dialFunc) func(network, address string) (net.Conn, error) {
	return func(network, address string) (net.Conn, error) {
		return dial(context.Background(), network, address)
	}
}

func TestI21CallersTransportIsCheckedWhenItDials(t *testing.T) {
	var requests, conns atomic.Int32
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	plain, secure := httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	plain.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	plain.Start()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	u, err := url.Parse(plain.URL)
	require.NoError(t, err)
	config := secure.Client().Transport.(*http.Transport).TLSClientConfig
	config.ServerName = "example.com"
	for name, c := range map[string]struct {
		transport *http.Transport
		place     string
	}{
		"no dialer":   {&http.Transport{}, "http://localhost:" + u.Port()},
		"DialContext": {&http.Transport{DialContext: aliased(plain)}, "http://cdn.invalid"},
		//lint:ignore SA1019 callers may still set it
		"Dial": {&http.Transport{Dial: withoutContext(aliased(plain))}, "http://cdn.invalid"},
		"DialContext and TLS": {
			&http.Transport{DialContext: aliased(secure), TLSClientConfig: config}, "https://cdn.invalid"},
		"DialTLSContext": {&http.Transport{DialTLSContext: aliased(plain)}, "https://cdn.invalid"},
		//lint:ignore SA1019 callers may still set it
		"DialTLS": {&http.Transport{DialTLS: withoutContext(aliased(plain))}, "https://cdn.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := NewClient(&http.Client{Transport: c.transport}, "test", 1)
			defer c2.Close()
			_, err := get(t, c2, elsewhere(t, "https://192.0.2.1", c.place))
			require.ErrorIs(t, err, ErrRedirectRefused)
			assert.Zero(t, requests.Load())
			if name == "no dialer" {
				assert.Zero(t, conns.Load(), "not even a connection is made")
			}

			// Where the registry is on this machine too, it may lead there.
			resp, err := get(t, c2, elsewhere(t, "http://127.0.0.1:1", c.place))
			require.NoError(t, err)
			resp.Discard()
			assert.EqualValues(t, 1, requests.Swap(0))
			conns.Store(0)
		})
	}
}

// A dialer that leads every name to one place, such as a tunnel or a test's, leads the registry's there too.
func TestI21TunnelOfTheCaller(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	resolver(t, [4]byte{192, 0, 2, 1})
	c := NewClient(&http.Client{Transport: &http.Transport{DialContext: aliased(server)}}, "test", 1)
	defer c.Close()
	target := mustParse(t, "http://registry.invalid").Blob("a", "sha256:x")
	resp, err := get(t, c, target)
	require.NoError(t, err)
	resp.Discard()
	next, err := target.Resolve("http://cdn.invalid/x")
	require.NoError(t, err)
	resp, err = get(t, c, next)
	require.NoError(t, err)
	resp.Discard()
	_, err = target.Resolve("http://127.0.0.1/x")
	require.ErrorIs(t, err, ErrRedirectRefused, "a host that is written as this machine's is still refused")
}

// The address of a proxy that the caller has chosen is not judged.
func TestI21ProxyOfTheCaller(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	c := NewClient(&http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(u)}}, "test", 1)
	defer c.Close()
	registry := mustParse(t, "http://192.0.2.1")
	for _, target := range []Target{
		registry.Blob("a", "sha256:x"), elsewhere(t, "https://192.0.2.1", "http://cdn.invalid/x"),
	} {
		resp, err := get(t, c, target)
		require.NoError(t, err)
		resp.Discard()
	}
	assert.Zero(t, registry.dialed.Load(), "the address of the proxy is not the registry's")
}

func TestI21CopyOfTheCallersTransport(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	failed := errors.New("failed")
	callers := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, failed },
	}
	c := NewClient(&http.Client{Transport: callers}, "test", 1)
	target := mustParse(t, server.URL).Blob("a", "sha256:x")
	_, err := get(t, c, target)
	require.ErrorIs(t, err, failed, "the caller's dialer is used")

	callers.DialContext = nil
	c = NewClient(&http.Client{Transport: callers}, "test", 1)
	for range 5 {
		resp, err := get(t, c, target)
		require.NoError(t, err)
		resp.Discard()
	}
	c.Close()
	assert.EqualValues(t, 1, conns.Load(), "connections are used again")
	assert.Equal(t, continueTimeout, c.own.ExpectContinueTimeout, "no body is sent before its time")
	assert.Nil(t, callers.DialContext, "the caller's is not changed")
	assert.Zero(t, callers.ExpectContinueTimeout)
}

func TestI21CopyOfTheCallersTransportKeepsHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	for name, c := range map[string]struct {
		transport *http.Transport
		major     int
	}{
		"by default": {&http.Transport{}, 2},
		"forced":     {&http.Transport{ForceAttemptHTTP2: true}, 2},
		"off":        {&http.Transport{DialContext: new(net.Dialer).DialContext}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := NewClient(&http.Client{Transport: c.transport}, "test", 1)
			defer client.Close()
			if client.own.TLSClientConfig == nil {
				client.own.TLSClientConfig = &tls.Config{}
			}
			client.own.TLSClientConfig.RootCAs = trusting.RootCAs
			target := mustParse(t, server.URL).Blob("a", "sha256:x")
			resp, err := get(t, client, target)
			require.NoError(t, err)
			resp.Discard()
			assert.Equal(t, c.major, resp.ProtoMajor)
		})
	}
}
