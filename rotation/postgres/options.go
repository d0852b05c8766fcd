package postgres

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Strategy is whose password is changed, and by whom.
type Strategy int

const (
	// SingleUser has the user of the secret change its own password.
	SingleUser Strategy = iota

	// SingleUserBySuperuser has a superuser change it, for a user that may not,
	// or logs in to a read replica alone.
	SingleUserBySuperuser

	// AlternatingUsers has a superuser give a second user the same rights and a
	// new password, so that AWSCURRENT goes on working.
	AlternatingUsers
)

// Options are the settings of a [Target]. The zero value of each field is its
// documented default.
type Options struct {
	// Strategy is how passwords are rotated. Default: [SingleUser].
	Strategy Strategy

	// Superuser is the id of the secret with the superuser's credential: an ARN
	// or a name. Default: the "masterarn" of the secret that is rotated, which
	// whoever may write that secret chooses.
	Superuser string

	// Suffix tells the two users of [AlternatingUsers] apart. Default "_clone".
	Suffix string

	// Replicas are read replicas on which the new password is tested before
	// AWSCURRENT moves, besides those in the secret's "replicas": hosts, or
	// host:port where the port is not the secret's. A name that resolves to
	// several addresses is all of them. Default: none.
	Replicas []string

	// TLS is used, as a copy, for connections that are encrypted. An empty
	// ServerName means the host of the secret. No RootCAs, or nil: the system's
	// roots and Amazon RDS's, and Amazon RDS's alone for a superuser whose secret
	// does not say where it logs in.
	TLS *tls.Config

	// ConnectTimeout bounds each attempt to connect and log in. Default 5 seconds.
	ConnectTimeout time.Duration

	// DialFunc opens the network connection, through a tunnel for instance. It
	// gets the host as the secret names it, not resolved, unless LookupHost is
	// set. Default: a [net.Dialer]'s.
	DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

	// LookupHost resolves the names of read replicas. Default:
	// [net.Resolver.LookupHost], and no resolving if DialFunc is set.
	LookupHost func(ctx context.Context, host string) (addrs []string, err error)
}

func (o *Options) withDefaults() Options {
	var v Options
	if o != nil {
		v = *o
	}
	if v.Suffix == "" {
		v.Suffix = "_clone"
	}
	if v.ConnectTimeout <= 0 {
		v.ConnectTimeout = 5 * time.Second
	}
	return v
}
