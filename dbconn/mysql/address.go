package mysql

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/dbconn"
)

// defaultPort is MySQL's.
const defaultPort = 3306

// An address is where a server is, and how it is dialled.
type address struct {
	network string // "tcp" and its kin, "unix", or one of RegisterDialContext

	// host is empty if nobody has named one. Without a port, it is the address
	// as the driver takes it: a socket's path, or what the network's own
	// function makes of it.
	host string
	port int
}

// isTCP reports whether the address is a host and a port, whoever dials it.
func (a address) isTCP() bool {
	return a.network == "tcp" || a.network == "tcp4" || a.network == "tcp6"
}

// local reports whether the address is of this machine: a socket or a loopback
// address, where there is nobody on the way.
func (a address) local() bool {
	if a.network == "unix" {
		return true
	}
	if !a.isTCP() {
		return false // whatever it looks like: the network's own function dials it
	}
	ip, err := netip.ParseAddr(a.host)
	return a.host == "localhost" || err == nil && ip.IsLoopback()
}

// text returns the address as the driver takes it.
func (a address) text() string {
	if a.network == "unix" || a.port == 0 {
		return a.host
	}
	return net.JoinHostPort(a.host, strconv.Itoa(a.port))
}

// readAddress reads what a DSN or a Config says, where option names it in errors.
func readAddress(option, network, text string) (address, error) {
	a := address{network: network}
	if network == "" {
		a.network = "tcp"
	}
	switch {
	case text == "" && network == "unix":
		return address{}, errors.New("mysql: " + option + " names the network unix without a socket; name its path: unix(/path)")
	case text == "":
		return a, nil
	case !a.isTCP():
		a.host = text
		return a, nil
	}
	a.port = defaultPort
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		// No port, as the driver has it too; brackets are its way to fail.
		host = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":[]") {
			return address{}, errors.New("mysql: " + option + " names an address that is not host, host:port or [IPv6]:port")
		}
	} else {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return address{}, errors.New("mysql: " + option + " names a port that is not a number from 1 to 65535")
		}
		a.port = int(n)
	}
	if host == "" {
		return address{}, errors.New("mysql: " + option + " names an empty host, which the driver would take for the local machine")
	}
	a.host = host
	return a, nil
}

const (
	// headStart is how long the addresses of the one family are waited for, each,
	// before the other family's turn: what a [net.Dialer] gives them (RFC 8305).
	headStart = 300 * time.Millisecond

	// leastWait is the least time for one of several addresses of a family, as a
	// [net.Dialer] has it too.
	leastWait = 2 * time.Second
)

// spread returns the addresses at which to try a server that has these, in the order
// of the lookup, when there is so much time left. None may use up the time of all: a
// firewall that swallows what goes to one of them must not end the connect.
//
// A [net.Dialer] dials the two families at once, and would settle that better. But
// which version is tried depends on the address, and nobody is to hold a connection
// while others are waited for; so the first family is tried again at the end.
func spread(ips []netip.Addr, port uint16, left time.Duration) []dbconn.Address {
	var first, other []dbconn.Address
	for _, ip := range ips {
		ip = ip.Unmap()
		at := dbconn.Address{Addr: netip.AddrPortFrom(ip, port).String(), Wait: max(left/time.Duration(len(ips)), leastWait)}
		if ip.Is4() == ips[0].Unmap().Is4() {
			first = append(first, at)
		} else {
			other = append(other, at)
		}
	}
	var all []dbconn.Address
	if len(other) > 0 {
		for _, at := range first {
			all = append(all, dbconn.Address{Addr: at.Addr, Wait: headStart})
		}
	}
	all = append(append(all, other...), first...)
	if len(all) > 0 {
		all[len(all)-1].Wait = 0
	}
	return all
}
