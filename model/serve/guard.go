package serve

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// refusal says why a request is not answered, or nothing. Whoever can reach this registry may use it, and so
// may every web page that they have open, unless it is told from its visitor: a browser says where a request
// comes from, and under which name it asks. Hosts are further names of the registry.
func refusal(req *http.Request, hosts []string) string {
	if !answersTo(req, hosts) {
		return "this registry does not answer to the name " + hostname(req.Host)
	}
	switch req.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return "pages of other sites may not use this registry"
	}
	for _, origin := range req.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, req.Host) {
			return "pages of other sites may not use this registry"
		}
	}
	return ""
}

// answersTo tells whether a request names this machine, where it came in by a loopback address: the owner of
// any other name can have it lead there (DNS rebinding).
func answersTo(req *http.Request, hosts []string) bool {
	local, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return true
	}
	host := hostname(req.Host)
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
	}
	self, err := os.Hostname()
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		err == nil && host == hostname(self) ||
		slices.ContainsFunc(hosts, func(name string) bool { return hostname(name) == host })
}

// hostname is a host without its port, as names are compared.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
