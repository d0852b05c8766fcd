// Package retire decides when connections of a pool make room for ones that are
// opened with a newer version of the secret.
//
// There is no hurry about it: servers let a session go on when its password
// changes. So no connection is cut: one that is due says so when it is checked out
// of its pool, between two users. And none is due before a login has proven the
// newer version, else a rotation that goes wrong would empty the pool.
package retire

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/cache"
)

const (
	// spread is how long the connections of a pool take to retire: at most a
	// tenth of them a second, so that neither they nor the server notice.
	spread = 10 * time.Second

	// proofTimeout bounds the login that proves a version, and proofPause is the
	// least time between two for the same version.
	proofTimeout = 30 * time.Second
	proofPause   = 30 * time.Second
)

// Options are the parts of a [Pool].
type Options struct {
	Cache  *cache.Cache
	Handle *cache.Handle // on the secret

	// Keep is whether no connection ever retires.
	Keep bool

	// Prove logs in and gives the connection back. A login that is accepted is
	// told to Accepted, as any other.
	Prove func(context.Context) error

	// Retired is called when a connection retires.
	Retired func(versionID string)
}

// A Pool remembers which version was proven, and when. It is safe for concurrent
// use.
type Pool struct {
	opts   Options
	opened atomic.Uint64 // connections so far

	mu       sync.Mutex // protects following; not held during a login
	proven   string     // the version that AWSCURRENT was on when a login with it was accepted
	provenAt time.Time
	tried    string // the version that a proof was last begun for
	triedAt  time.Time
}

// New returns a Pool.
func New(opts Options) *Pool { return &Pool{opts: opts} }

// Accepted takes note that the target accepted a login with s.
func (p *Pool) Accepted(s *cache.Secret) {
	current, ok := p.opts.Handle.Peek()
	if !ok || current.VersionID() != s.VersionID() {
		return // not what connections should be opened with
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proven != s.VersionID() {
		p.proven, p.provenAt = s.VersionID(), time.Now()
	}
}

// Open returns what is to be kept with a connection that is being opened with s.
func (p *Pool) Open(s *cache.Secret) *Conn {
	// The fractional parts of the multiples of the golden ratio are spread
	// evenly, whichever stretch of them one takes: the connections of a pool,
	// opened at different times, find each their own moment.
	_, share := math.Modf(float64(p.opened.Add(1)) * math.Phi)
	c := &Conn{
		pool:   p,
		secret: s,
		opened: time.Now(),
		delay:  time.Duration(share * float64(spread)),
	}
	if current, ok := p.opts.Handle.Peek(); ok {
		c.current = current.VersionID()
	}
	return c
}

// A Conn is what is kept with a connection.
type Conn struct {
	pool    *Pool
	secret  *cache.Secret
	current string // what AWSCURRENT was on then: another version, of a connection opened in the middle of a rotation
	opened  time.Time
	delay   time.Duration // how long after a proof it retires
	retired atomic.Bool
}

// Retired reports whether the connection should not be used any more. It is to be
// asked when the connection is checked out, costs a look at the cache, and never
// waits.
func (c *Conn) Retired() bool {
	p := c.pool
	if p.opts.Keep {
		return false
	}
	current, ok := p.opts.Handle.Peek()
	if !ok || current == c.secret || current.VersionID() == c.secret.VersionID() {
		return false
	}
	if current.VersionID() == c.current || !p.due(c, current.VersionID()) {
		return false
	}
	if !c.retired.Swap(true) {
		p.opts.Retired(c.secret.VersionID())
	}
	return true
}

// due reports whether a connection that was opened with another version than
// current is to retire now. If nobody has proven that version, it has it proven.
func (p *Pool) due(c *Conn, current string) bool {
	p.mu.Lock()
	if p.proven == current {
		// One that was opened later was opened with an older version all the
		// same: its server, a replica perhaps, does not want the newer yet.
		due := c.opened.Before(p.provenAt) && p.opts.Cache.Since(p.provenAt) >= c.delay
		p.mu.Unlock()
		return due
	}
	begin := p.tried != current || p.opts.Cache.Since(p.triedAt) >= proofPause
	if begin {
		p.tried, p.triedAt = current, time.Now()
	}
	p.mu.Unlock()
	if begin {
		// In serverless mode there is no background; there the next login that
		// somebody needs proves it.
		p.opts.Cache.Background(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, proofTimeout)
			defer cancel()
			_ = p.opts.Prove(ctx) // the retrier has told what there is to tell
		})
	}
	return false
}
