package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/pgserver"
)

const (
	// lifetime is how long a connection lives. Pools of real programs keep them
	// for minutes, and have hundreds of them: a rotation meets as many logins.
	lifetime = 100 * time.Millisecond

	// query keeps its connection as long as a real one, and costs nothing: it
	// is logins that this is about, on a machine that may have two cores.
	query = "select pg_sleep(0.005)"

	// queryTimeout is what a user would wait.
	queryTimeout = 10 * time.Second

	// thinkTime is the pause after a query, up to twice as much. After a failed
	// one the pause is longer, so that failing is no more work for the server.
	thinkTime  = 10 * time.Millisecond
	errorPause = 100 * time.Millisecond
)

// A pool is one of the two, with its user, its secret and its numbers.
type pool struct {
	name     string
	user     string
	secretID string

	db       *sql.DB
	cache    *cache.Cache // Keyturn's; nil for the plain one
	api      *countedAPI
	logins   *logins
	function *function

	queries atomic.Int64 // failed ones included
	failed  atomic.Int64

	mu       sync.Mutex // protects following
	opening  []time.Duration
	firstErr error
	marks    []int // failed logins at the beginning of each rotation
	answers  []answer
}

// open opens the pool over a connector. Both get the same settings.
func (p *pool) open(c driver.Connector, workers int) {
	p.db = sql.OpenDB(&measured{Connector: c, pool: p})
	p.db.SetMaxOpenConns(workers)
	p.db.SetMaxIdleConns(workers)
	p.db.SetConnMaxLifetime(lifetime)
}

// close closes the pool, and the cache after it.
func (p *pool) close() error {
	var err error
	if p.db != nil {
		err = p.db.Close()
	}
	if p.cache != nil {
		p.cache.Close()
	}
	return err
}

// work is one worker: a query, a pause, and so on, whatever comes back.
func (p *pool) work(ctx context.Context, stop <-chan struct{}) {
	for {
		pause := thinkTime + rand.N(thinkTime)
		if err := p.query(ctx); err != nil {
			pause = errorPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *pool) query(ctx context.Context) error {
	timed, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	start := time.Now()
	_, err := p.db.ExecContext(timed, query)
	now := time.Now()
	if ctx.Err() != nil {
		return nil // Ctrl-C: nobody's failure
	}
	p.queries.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, answer{at: now, took: now.Sub(start), failed: err != nil})
	if err != nil {
		p.failed.Add(1)
		if p.firstErr == nil {
			p.firstErr = err
		}
	}
	return err
}

// mark takes note of the failed logins so far: a rotation begins.
func (p *pool) mark(pg *pgserver.Server) error {
	n, err := p.failedLogins(pg)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks = append(p.marks, n)
	return err
}

// failedLogins returns how many logins of the pool the server has refused,
// according to its log. The rotation function logs in as the same user.
func (p *pool) failedLogins(pg *pgserver.Server) (int, error) {
	n, err := pg.FailedLogins(p.user)
	_, own := p.function.past()
	return n - own, err
}

// measured is a connector with a clock around it.
type measured struct {
	driver.Connector

	pool *pool
}

// Connect opens a connection, and takes note of how long that took as
// database/sql sees it: with all that a connector does inside.
func (m *measured) Connect(ctx context.Context) (driver.Conn, error) {
	start := time.Now()
	conn, err := m.Connector.Connect(ctx)
	if err == nil {
		m.pool.mu.Lock()
		m.pool.opening = append(m.pool.opening, time.Since(start))
		m.pool.mu.Unlock()
	}
	return conn, err
}

// countedAPI counts the calls that a pool makes; those of its rotation function
// go through another client.
type countedAPI struct {
	cache.API

	calls atomic.Int64
}

func (a *countedAPI) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	a.calls.Add(1)
	return a.API.GetSecretValue(ctx, in, opts...)
}
