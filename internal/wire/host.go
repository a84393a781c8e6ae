package wire

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// reach tells from where an address can be reached: from anywhere, or only from the same link or the
// same machine. A foreign server must not send us to the latter two: its request would come from
// within, as one to the metadata service of a cloud.
type reach int

const (
	reachAny reach = iota
	reachLink
	reachMachine
)

// metadataServices are addresses of clouds' metadata services that are not link-local.
var metadataServices = map[netip.Addr]bool{
	netip.MustParseAddr("fd00:ec2::254"):   true, // AWS
	netip.MustParseAddr("fd20:ce::254"):    true, // Google Cloud
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"):   true, // Azure
	netip.MustParseAddr("192.0.0.192"):     true, // Oracle Cloud
}

func addrReach(ip netip.Addr) reach {
	zoned := ip.Zone() != ""
	switch ip = embeddedIPv4(ip.WithZone("")); {
	case ip.IsLoopback(), ip.IsUnspecified(), thisHost.Contains(ip):
		return reachMachine
	case zoned, ip.IsLinkLocalUnicast(), ip.IsMulticast(), metadataServices[ip]:
		return reachLink
	default:
		return reachAny
	}
}

var (
	thisHost   = netip.MustParsePrefix("0.0.0.0/8")    // RFC 1122 section 3.2.1.3
	compatible = netip.MustParsePrefix("::/96")        // IPv4-compatible, RFC 4291 section 2.5.5.1
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// embeddedIPv4 returns the IPv4 address that an IPv6 address stands for, and any other
// address as it is.
func embeddedIPv4(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); ip.Is4() || ip == netip.IPv6Loopback() || ip == netip.IPv6Unspecified() {
		return ip
	}
	b := ip.As16()
	switch {
	case compatible.Contains(ip), nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return ip
}

// literalReach judges a canonical host without asking the network.
func literalReach(host string) reach {
	name := strings.ToLower(strings.TrimRight(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return reachMachine
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return reachAny
	}
	return addrReach(ip)
}

// resolveReach judges the registry itself: its name may be one of this machine or link.
func resolveReach(host string) reach {
	if r := literalReach(host); r != reachAny {
		return r
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return reachAny
	}
	return addrReach(ips[0])
}

var errHost = errors.New("malformed host")

// canonicalize rewrites the host of a URL that is written to look like a name but means an address:
// what is judged is then what is dialled, whoever dials.
func canonicalize(u *url.URL) error {
	host, err := canonicalHost(u.Hostname())
	if err != nil || host == u.Hostname() {
		return err
	}
	if port := u.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	u.Host = host
	return nil
}

// canonicalHost returns the host in ASCII, and an IPv4 address in any notation as four decimal numbers.
func canonicalHost(host string) (string, error) {
	if strings.Contains(host, ":") { // IPv6 has one notation
		return host, nil
	}
	if !isASCII(host) {
		if host = mapToASCII(host); !isASCII(host) {
			return "", errHost
		}
	}
	labels := strings.Split(strings.TrimRight(host, "."), ".")
	if !isNumber(labels[len(labels)-1]) {
		return host, nil
	}
	ip, err := parseIPv4(labels)
	if err != nil {
		return "", err
	}
	return ip.String(), nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

var errNotDialled = errors.New("not dialled")

// mapToASCII returns the host as net/http dials it. IDNA maps full-width and circled digits, ideographic
// full stops and many other characters to ASCII ones. The standard library does not export its tables,
// so a transport is asked which address it would dial. A host that IDNA refuses is returned as it is.
func mapToASCII(host string) string {
	probe := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		if mapped, _, err := net.SplitHostPort(address); err == nil {
			host = mapped
		}
		return nil, errNotDialled
	}}
	request := &http.Request{URL: &url.URL{Scheme: "http", Host: host}, Header: http.Header{}}
	if resp, err := probe.RoundTrip(request); err == nil {
		_ = resp.Body.Close()
	}
	return host
}

// isNumber reports whether the last label of a host makes the host an IPv4 address (WHATWG URL, "ends
// in a number checker").
func isNumber(label string) bool {
	_, err := parseNumber(label)
	return err == nil || label != "" && strings.Trim(label, "0123456789") == ""
}

// parseIPv4 parses the notations of IPv4 addresses that C libraries and browsers know (WHATWG URL,
// "IPv4 parser"): one to four numbers, of which the last fills all bytes that are left.
func parseIPv4(labels []string) (netip.Addr, error) {
	if len(labels) > 4 {
		return netip.Addr{}, errHost
	}
	var ip uint32
	for i, label := range labels {
		n, err := parseNumber(label)
		bits := 8
		if i == len(labels)-1 {
			bits = 32 - 8*i
		}
		if err != nil || n>>bits != 0 {
			return netip.Addr{}, errHost
		}
		ip |= uint32(n) << (32 - 8*i - bits)
	}
	return netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)}), nil
}

// parseNumber parses a number of an IPv4 address: hexadecimal after 0x, octal after 0, decimal otherwise.
func parseNumber(s string) (uint64, error) {
	base := 10
	switch {
	case len(s) >= 2 && strings.EqualFold(s[:2], "0x"):
		if s, base = s[2:], 16; s == "" {
			return 0, nil
		}
	case len(s) >= 2 && s[0] == '0':
		s, base = s[1:], 8
	}
	return strconv.ParseUint(s, base, 64)
}
