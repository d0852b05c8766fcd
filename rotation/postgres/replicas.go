package postgres

import (
	"context"
	"net"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/internal/dbsecret"
)

// Replicas returns the read replicas that the Options and the secret name, one
// for each address that a name resolves to.
func (t *Target) Replicas(ctx context.Context, v *rotation.Value) ([]rotation.Node, error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return nil, err
	}
	c, err := parseFields(f)
	if err != nil {
		return nil, err
	}
	names, err := f.Replicas()
	if err != nil {
		return nil, err
	}
	return dbsecret.Nodes(ctx, append(names, t.opts.Replicas...), c.port,
		dbsecret.LookupFor(t.opts.LookupHost, t.opts.DialFunc != nil))
}

// TestAt is [Target.Test] on a read replica.
func (t *Target) TestAt(ctx context.Context, v *rotation.Value, at rotation.Node) error {
	c, err := parse(v)
	if err != nil {
		return err
	}
	if c.host, c.port, err = dbsecret.HostPort(at); err != nil {
		return err
	}
	cfg, err := t.config(c)
	if err != nil {
		return err
	}
	if addr, _, err := net.SplitHostPort(at.Addr); err == nil {
		cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{addr}, nil }
	}
	return connected(ctx, cfg, c, ping)
}
