package retry

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// splitHost returns the two parts of a host as a URL has it.
func splitHost(host string) (name, port string, err error) {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		host = "[" + host + "]"
	}
	u, err := url.Parse("https://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.Contains(host, "*") {
		return "", "", fmt.Errorf("retry: NewTransport: %q is no host; give a name or an address, and a port if need be, but no scheme, path or pattern", host)
	}
	name, port = lower(u.Hostname()), u.Port()
	if port == "443" && !isLoopback(name) {
		port = "" // so that its port 80 is known to be the same host's
	}
	return name, port, nil
}

// lower returns a host in lower case. Only letters of ASCII have one here: there
// are others that strings.ToLower makes an "s" or a "k" of.
func lower(host string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, host)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
