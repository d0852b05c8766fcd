package mysql

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// Replicas returns the read replicas that the Options and the secret name, one
// for each address that a name resolves to.
func (t *Target) Replicas(ctx context.Context, v *rotation.Value) ([]rotation.Node, error) {
	c, err := parse(v)
	if err != nil {
		return nil, err
	}
	inSecret, err := replicaNames(v)
	if err != nil {
		return nil, err
	}
	var nodes []rotation.Node
	for _, name := range append(inSecret, t.opts.Replicas...) {
		host, port := hostPort(name, strconv.Itoa(int(c.port)))
		addrs, err := t.lookup(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("resolving %q: %w", host, err)
		}
		for _, addr := range addrs {
			nodes = append(nodes, rotation.Node{Name: net.JoinHostPort(host, port), Addr: net.JoinHostPort(addr, port)})
		}
	}
	return nodes, nil
}

func (t *Target) lookup(ctx context.Context, host string) ([]string, error) {
	switch {
	case t.opts.LookupHost != nil:
		return t.opts.LookupHost(ctx, host)
	case t.opts.DialFunc != nil:
		return []string{host}, nil
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

// TestAt is [Target.Test] on a read replica.
func (t *Target) TestAt(ctx context.Context, v *rotation.Value, at rotation.Node) error {
	c, err := parse(v)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(at.Name)
	if err != nil {
		return fmt.Errorf("the replica %q is no host and port: %w", at.Name, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("the replica %q: its port is not a number from 1 to 65535", at.Name)
	}
	c.host, c.port, c.dialled = host, uint16(number), at.Addr
	return refused(t.ping(ctx, c))
}

// hostPort takes apart what an option or a secret calls a replica.
func hostPort(s, port string) (host, _ string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return h, p
	}
	return strings.Trim(s, "[]"), port
}
