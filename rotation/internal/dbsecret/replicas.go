package dbsecret

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// A Lookup resolves the name of a host.
type Lookup func(ctx context.Context, host string) (addrs []string, err error)

// LookupFor returns the Lookup for what Options say: theirs; where they dial
// themselves none, a name being its own address; or else the system's.
func LookupFor(own Lookup, dialsItself bool) Lookup {
	switch {
	case own != nil:
		return own
	case dialsItself:
		return func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	}
	return net.DefaultResolver.LookupHost
}

// Nodes returns the servers of that name, each a host, or host:port where the port
// is another one: one for each address.
func Nodes(ctx context.Context, names []string, port uint16, lookup Lookup) ([]rotation.Node, error) {
	var nodes []rotation.Node
	for _, name := range names {
		host, port := splitName(name, strconv.Itoa(int(port)))
		addrs, err := lookup(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("resolving %q: %w", host, err)
		}
		for _, addr := range addrs {
			nodes = append(nodes, rotation.Node{Name: net.JoinHostPort(host, port), Addr: net.JoinHostPort(addr, port)})
		}
	}
	return nodes, nil
}

// splitName takes apart what an option or a secret calls a replica.
func splitName(name, port string) (host, _ string) {
	if h, p, err := net.SplitHostPort(name); err == nil {
		return h, p
	}
	return strings.Trim(name, "[]"), port
}

// HostPort returns the two parts of a node's name.
func HostPort(at rotation.Node) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(at.Name)
	if err != nil {
		return "", 0, fmt.Errorf("the replica %q is no host and port: %w", at.Name, err)
	}
	if port, err = parsePort(text); err != nil {
		return "", 0, fmt.Errorf("the replica %q: its port %w", at.Name, err)
	}
	return host, port, nil
}
