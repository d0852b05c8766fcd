package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"

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
	name := at.Name
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return fmt.Errorf("the replica %q is no host and port: %w", name, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("the replica %q: its port is not a number from 1 to 65535", name)
	}
	c.host, c.port = host, uint16(number)
	cfg, err := t.config(c)
	if err != nil {
		return err
	}
	if addr, _, err := net.SplitHostPort(at.Addr); err == nil {
		cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{addr}, nil }
	}
	return connected(ctx, cfg, c, ping)
}
