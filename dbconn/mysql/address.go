package mysql

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
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
