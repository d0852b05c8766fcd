package dbconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/retire"
	"github.com/keyturn/keyturn/retry"
)

// A Source gives the credentials of a secret to logins, and learns from how they
// end. It is what [NewConnector] stands on, for pools that are not database/sql's:
// package postgres gives pgxpool its credentials so. It is safe for concurrent
// use and needs no closing.
type Source struct {
	cache    *cache.Cache
	secretID string
	handle   *cache.Handle
	driver   Driver
	opts     Options
	pool     *retire.Pool

	mu       sync.Mutex                // protects following; never held during a login
	retriers map[target]*retry.Retrier // what each server accepts is its own affair
	decoded  map[string]Credentials    // by version: its contents never change
	broken   string                    // the version that a warning has told of
}

// An endpoint is a server that logins go to.
type endpoint struct {
	host string
	port int
}

func (e endpoint) String() string {
	if e.port == 0 {
		return e.host
	}
	return net.JoinHostPort(e.host, strconv.Itoa(e.port))
}

// A target is an endpoint, or one address of several that it has.
type target struct {
	endpoint endpoint
	address  string // empty: whichever
}

// one reports whether the target is one server, and not an endpoint over several: an
// address, or a socket.
func (at target) one() bool {
	_, err := netip.ParseAddr(at.endpoint.host)
	return at.address != "" || err == nil || strings.HasPrefix(at.endpoint.host, "/")
}

// NewSource returns a Source. Of d, Connector, Addresses and Driver are not looked
// at. prove makes a login and gives the connection back; it is called behind the
// logins when a version wants to be proven, so that older connections can retire.
// If it is nil none does, as with Options.KeepOld. NewSource does no I/O. The error
// is about its parameters.
func NewSource(c *cache.Cache, secretID string, d Driver, opts *Options, prove func(context.Context) error) (*Source, error) {
	switch {
	case c == nil:
		return nil, errors.New("dbconn: the cache is nil; make one with cache.New")
	case secretID == "":
		return nil, errors.New("dbconn: the secret ID is empty; give the name or the ARN of a secret")
	case d.Refused == nil:
		return nil, errors.New("dbconn: Driver.Connector and Driver.Refused must be set")
	}
	src := &Source{
		cache:    c,
		secretID: secretID,
		handle:   c.Handle(secretID),
		driver:   d,
		retriers: make(map[target]*retry.Retrier),
		decoded:  make(map[string]Credentials),
	}
	if opts != nil {
		src.opts = *opts
	}
	if src.opts.Port != 0 && src.opts.Host == "" {
		return nil, errors.New("dbconn: Options.Port is set without Options.Host; host and port come from one place, so set both or neither")
	}
	if src.opts.Port < 0 || src.opts.Port > 65535 {
		return nil, fmt.Errorf("dbconn: Options.Port is %d; a port is a number from 1 to 65535", src.opts.Port)
	}
	src.pool = retire.New(retire.Options{
		Cache: c, Handle: src.handle, Keep: src.opts.KeepOld || prove == nil,
		Prove: prove, Retired: src.reportRetired,
	})
	return src, nil
}

// SecretID returns the ID of the secret, as it was given to [NewSource].
func (src *Source) SecretID() string { return src.secretID }

// Held returns the credentials that the cache holds, completed by the Options. It
// is where to connect to; what to log in with, a [Walk] tells. If there is nothing
// of the kind in AWSCURRENT, as after a slip of whoever edited the secret, those of
// AWSPREVIOUS are returned, with a warning in the log. It waits as [cache.Cache.Get]
// does.
func (src *Source) Held(ctx context.Context) (Credentials, error) {
	s, err := src.handle.Get(ctx)
	if err != nil {
		return Credentials{}, err
	}
	held, broken := src.credentials(s)
	if broken == nil {
		return held, nil
	}
	previous, err := src.cache.GetStage(ctx, src.secretID, cache.Previous)
	if err != nil {
		return Credentials{}, broken
	}
	if held, err = src.credentials(previous); err != nil {
		return Credentials{}, broken
	}
	src.warnBroken(ctx, s, broken)
	return held, nil
}

// warnBroken says, once for each version, that AWSCURRENT is of no use.
func (src *Source) warnBroken(ctx context.Context, s *cache.Secret, broken error) {
	src.mu.Lock()
	told := src.broken == s.VersionID()
	src.broken = s.VersionID()
	src.mu.Unlock()
	if src.opts.Logger != nil && !told {
		src.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "AWSCURRENT is of no use, going on with AWSPREVIOUS",
			slog.String("secret_id", src.secretID), slog.String("version_id", s.VersionID()), slog.Any("error", broken))
	}
}

// Moved returns the credentials that the cache holds now, and reports whether they
// name another server than the given ones: the database has moved. It does not wait.
func (src *Source) Moved(server Credentials) (Credentials, bool) {
	s, ok := src.handle.Peek()
	if !ok {
		return Credentials{}, false
	}
	now, err := src.credentials(s)
	return now, err == nil && now.endpoint() != server.endpoint()
}

// A Walk goes through the credentials that a server may accept, one login at a
// time:
//
//	credentials, err := w.Next(ctx)
//	// one login with them, which ends with err
//	again := w.Done(ctx, err)
//
// It belongs to one caller and is not safe for concurrent use.
type Walk struct {
	source *Source
	walk   *retry.Walk
	secret *cache.Secret
}

// Walk begins a walk to the server that the credentials name. An address, if it is
// not empty, is the one of the server's several that is dialled: what each of them
// accepts is remembered by itself.
func (src *Source) Walk(server Credentials, address string) *Walk {
	return &Walk{source: src, walk: src.retrier(target{server.endpoint(), address}).Walk()}
}

// Next returns the credentials to log in with now. It waits, and fails, as
// [retry.Walk.Next] does.
func (w *Walk) Next(ctx context.Context) (Credentials, error) {
	s, err := w.walk.Next(ctx)
	if err != nil {
		return Credentials{}, err
	}
	credentials, err := w.source.credentials(s)
	if err != nil {
		w.walk.NoVerdict(ctx)
		return Credentials{}, err
	}
	w.secret, credentials.conn = s, w.source.pool.Open(s)
	return credentials, nil
}

// Done says how the login has ended: with nil if it was accepted, else with the
// driver's error. It reports whether to try again with what Next returns.
func (w *Walk) Done(ctx context.Context, err error) (again bool) {
	if err == nil {
		w.source.pool.Accepted(w.secret)
	}
	return w.walk.Done(ctx, err)
}

// maxTargets bounds the memories of servers: their addresses change with the years.
const maxTargets = 64

// retrier returns the memory of what the server accepts.
func (src *Source) retrier(at target) *retry.Retrier {
	src.mu.Lock()
	defer src.mu.Unlock()
	if r := src.retriers[at]; r != nil {
		return r
	}
	if len(src.retriers) >= maxTargets {
		clear(src.retriers)
	}
	name := at.endpoint.String()
	if at.address != "" {
		name += " (" + at.address + ")"
	}
	r := retry.New(src.cache, src.secretID, src.driver.Refused, &retry.Options{
		Target: name,
		// A version that names another server is not for this one.
		Usable: func(s *cache.Secret) bool {
			credentials, err := src.credentials(s)
			return err != nil || credentials.endpoint() == at.endpoint
		},
		Broken: func(s *cache.Secret) error {
			_, err := src.credentials(s)
			return err
		},
		OneServer:           at.one(),
		LockedOut:           src.driver.LockedOut,
		RefusesUser:         src.driver.RefusesUser,
		Accepts:             src.driver.Accepts,
		Code:                src.driver.Code,
		User:                src.user,
		Patience:            src.opts.Patience,
		MaxConcurrentLogins: src.opts.MaxConcurrentLogins,
		OnEvent:             src.opts.OnEvent,
		Stats:               src.opts.Stats,
		Logger:              src.opts.Logger,
	})
	src.retriers[at] = r
	return r
}

// reportRetired tells of a connection that has retired.
func (src *Source) reportRetired(versionID string) {
	src.mu.Lock()
	var one *retry.Retrier
	for _, one = range src.retriers { // nearly always the only one
		break
	}
	src.mu.Unlock()
	if one != nil {
		one.Report(retry.Retired, versionID, "", nil)
	}
}

// user returns the user that the version logs in as.
func (src *Source) user(s *cache.Secret) string {
	credentials, _ := src.credentials(s) // what cannot be read is tried by nobody
	return credentials.Username
}

// credentials returns what the version says, completed by the Options.
func (src *Source) credentials(s *cache.Secret) (Credentials, error) {
	src.mu.Lock()
	credentials, ok := src.decoded[s.VersionID()]
	src.mu.Unlock()
	if ok {
		return credentials, nil
	}
	credentials, err := decode(s, src.opts.Keys, src.driver.Engines)
	if err != nil {
		return Credentials{}, err
	}
	if src.opts.Host != "" {
		credentials.Host, credentials.Port = src.opts.Host, src.opts.Port
	}
	if credentials.Host == "" {
		return Credentials{}, fmt.Errorf("dbconn: secret %q (version %s) has no field %q, and no option names a host; "+
			"set Options.Host, or name the host in the DSN or in the secret", s.Name(), s.VersionID(), cmp.Or(src.opts.Keys.Host, "host"))
	}
	if credentials.Port == 0 {
		credentials.Port = src.driver.DefaultPort
	}
	if src.opts.Database != "" {
		credentials.Database = src.opts.Database
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	// A handful of versions is alive at a time; the rest need not be kept.
	if len(src.decoded) >= 8 {
		clear(src.decoded)
	}
	src.decoded[s.VersionID()] = credentials
	return credentials, nil
}
