package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	keyturnmysql "github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/pgserver"
)

// Who logs in, on all servers.
const (
	benchUser = "bench"
	benchWord = "p4ssword"
)

// An opener opens a connection and closes it.
type opener func(context.Context) error

// A contest is one way to open a connection: the driver's own, and Keyturn's through
// the same driver.
type contest struct {
	name          string
	bare, keyturn opener
	allocations   float64 // that Keyturn may make beside the driver's
}

// A server is a database server of our own.
type server interface {
	CreateUser(ctx context.Context, name, password string) error
	Host() string
	Port() int
	Stop() error
}

// An arena is the servers, and the contests on them.
type arena struct {
	contests []contest
	servers  []server
	caches   []*cache.Cache
}

// newArena starts the servers. The caller closes the arena, also one that it gets with
// an error.
func newArena(ctx context.Context) (*arena, error) {
	a := &arena{}
	pg, err := pgserver.Start(ctx, &pgserver.Options{MaxConnections: 50})
	if err != nil {
		return a, err
	}
	if err := a.addPostgres(ctx, pg); err != nil {
		return a, err
	}
	for _, kind := range []mysqlserver.Kind{mysqlserver.MySQL, mysqlserver.MariaDB} {
		srv, err := mysqlserver.Start(ctx, &mysqlserver.Options{Kind: kind})
		if err != nil {
			return a, err
		}
		if err := a.addMySQL(ctx, srv); err != nil {
			return a, err
		}
	}
	// What is done once for all connects is no part of one.
	for _, c := range a.contests {
		for range 3 {
			if err := errors.Join(c.bare(ctx), c.keyturn(ctx)); err != nil {
				return a, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return a, nil
}

func (a *arena) close() error {
	var errs []error
	for _, c := range a.caches {
		c.Close()
	}
	for _, s := range a.servers {
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}

// add takes a server in, and returns a cache that holds the secret prod/db for it.
func (a *arena) add(ctx context.Context, s server) (*cache.Cache, error) {
	a.servers = append(a.servers, s)
	if err := s.CreateUser(ctx, benchUser, benchWord); err != nil {
		return nil, err
	}
	secret, err := json.Marshal(map[string]any{
		"username": benchUser, "password": benchWord, "host": s.Host(), "port": s.Port(), "dbname": benchUser,
	})
	if err != nil {
		return nil, err
	}
	c, err := cache.New(cache.Static(map[string]string{"prod/db": string(secret)}), nil)
	if err != nil {
		return nil, err
	}
	a.caches = append(a.caches, c)
	return c, nil
}

func (a *arena) addPostgres(ctx context.Context, s server) error {
	c, err := a.add(ctx, s)
	if err != nil {
		return err
	}
	bare, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", s.Host(), s.Port(), benchUser, benchWord, benchUser))
	if err != nil {
		return err
	}
	ours, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		return err
	}
	pool, err := pgxpool.ParseConfig("")
	if err != nil {
		return err
	}
	if err := postgres.ConfigurePool(pool, c, "prod/db", nil); err != nil {
		return err
	}
	const most = 48
	a.contests = append(
		a.contests,
		contest{
			"PostgreSQL, database/sql",
			func(ctx context.Context) error { return connect(ctx, stdlib.GetConnector(*bare)) },
			func(ctx context.Context) error { return connect(ctx, ours) },
			most,
		},
		contest{
			"PostgreSQL, pgxpool",
			func(ctx context.Context) error { return construct(ctx, bare, nil) },
			func(ctx context.Context) error { return construct(ctx, pool.ConnConfig, pool.BeforeConnect) },
			most,
		},
	)
	return nil
}

func (a *arena) addMySQL(ctx context.Context, s *mysqlserver.Server) error {
	c, err := a.add(ctx, s)
	if err != nil {
		return err
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(s.Host(), strconv.Itoa(s.Port()))
	cfg.User, cfg.Passwd, cfg.DBName = benchUser, benchWord, benchUser
	bare, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	ours, err := keyturnmysql.NewConnector(c, "prod/db", nil)
	if err != nil {
		return err
	}
	a.contests = append(a.contests, contest{
		string(s.Kind()) + ", database/sql",
		func(ctx context.Context) error { return connect(ctx, bare) },
		func(ctx context.Context) error { return connect(ctx, ours) },
		24,
	})
	return nil
}

// connect is what database/sql does for each connection.
func connect(ctx context.Context, connector driver.Connector) error {
	conn, err := connector.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// construct is what a pgxpool does for each connection.
func construct(ctx context.Context, cfg *pgx.ConnConfig, before func(context.Context, *pgx.ConnConfig) error) error {
	cfg = cfg.Copy()
	if before != nil {
		if err := before(ctx, cfg); err != nil {
			return err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// A cost is what one connect takes, on average of a turn.
type cost struct{ allocations, cpu, wall float64 } // cpu and wall in microseconds

// measure makes n connects.
func measure(ctx context.Context, open opener, n int) (cost, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), processorTime()
	for range n {
		if err := open(ctx); err != nil {
			return cost{}, err
		}
	}
	wall, cpu := time.Since(start), processorTime()-cpu
	runtime.ReadMemStats(&after)
	per := func(total float64) float64 { return total / float64(n) }
	return cost{
		allocations: per(float64(after.Mallocs - before.Mallocs)),
		cpu:         per(float64(cpu) / 1000),
		wall:        per(float64(wall) / 1000),
	}, nil
}

// How long a contender opens connections at a time, and how often. A login to
// PostgreSQL takes 1.3 ms of CPU, for the hashing, and what the hashing takes changes by
// more than our share when the machine's other work comes and goes. The shorter a pair
// of turns, the more of that both its sides have; and of many pairs the median is sharp
// enough. How far it may be off is printed beside it.
const (
	connectTurn   = 4 * time.Millisecond
	connectRounds = 1000
)

// compare has both sides of a contest take turns, and returns what a connect costs
// them, round by round. Which goes first alternates.
func (c contest) compare(ctx context.Context) (bare, keyturn []cost, err error) {
	probe, err := measure(ctx, c.bare, 20)
	if err != nil {
		return nil, nil, err
	}
	n := max(1, int(float64(connectTurn.Microseconds())/probe.wall))
	costs := [2][]cost{}
	for round := range connectRounds {
		for i := range 2 {
			i = (i + round) % 2
			got, err := measure(ctx, [2]opener{c.bare, c.keyturn}[i], n)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", c.name, err)
			}
			costs[i] = append(costs[i], got)
		}
	}
	return costs[0], costs[1], nil
}

// doubt returns two standard errors of the median, reckoned from the quartiles: the
// outliers of a shared machine are no part of it.
func (s series) doubt() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	deviation := (sorted[3*n/4] - sorted[n/4]) / 1.349 // a normal distribution's
	return 2 * 1.253 * deviation / math.Sqrt(float64(n))
}

// over returns how much more one side takes of something, round by round.
func over(bare, keyturn []cost, of func(cost) float64) series {
	more := make(series, len(bare))
	for i := range bare {
		more[i] = of(keyturn[i]) - of(bare[i])
	}
	return more
}

// every returns one number of each round's cost.
func every(costs []cost, of func(cost) float64) series {
	all := make(series, len(costs))
	for i, c := range costs {
		all[i] = of(c)
	}
	return all
}

// connects compares connects through Keyturn with the driver's own.
func connects(t *table) (err error) {
	// As a request's context: one that may be cancelled. For one that may not the
	// drivers do less, and we do not.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a, err := newArena(ctx)
	defer func() { err = errors.Join(err, a.close()) }()
	if err != nil {
		return err
	}
	t.line("\nconnect on loopback, without TLS", "", "Keyturn", "the driver", "more", "bound", "")
	for _, c := range a.contests {
		bare, keyturn, err := c.compare(ctx)
		if err != nil {
			return err
		}
		t.connect(c, bare, keyturn)
	}
	return nil
}

// connect prints what a contest has come to. The medians are of the rounds' differences
// and quotients: what disturbed a round disturbed both sides of it.
func (t *table) connect(c contest, bare, keyturn []cost) {
	allocations := func(c cost) float64 { return c.allocations }
	ours, drivers := every(keyturn, allocations).median(), every(bare, allocations).median()
	more := over(bare, keyturn, allocations).median()
	t.line(c.name, "allocations", fmt.Sprintf("%.0f", ours), fmt.Sprintf("%.0f", drivers),
		fmt.Sprintf("%.0f", more), fmt.Sprintf("%.0f", c.allocations), verdict(more <= c.allocations))

	const mostCPU = 25
	cpu := func(c cost) float64 { return c.cpu }
	ours, drivers = every(keyturn, cpu).median(), every(bare, cpu).median()
	took := over(bare, keyturn, cpu)
	t.line("", "CPU", fmt.Sprintf("%.0f µs", ours), fmt.Sprintf("%.0f µs", drivers),
		fmt.Sprintf("%.0f ± %.0f µs", took.median(), took.doubt()), fmt.Sprintf("%d µs", mostCPU), verdict(took.median() <= mostCPU))

	const mostTime = 5
	wall := func(c cost) float64 { return c.wall }
	ours, drivers = every(keyturn, wall).median(), every(bare, wall).median()
	ratio := every(keyturn, wall).over(every(bare, wall))
	percent := 100 * (ratio.median() - 1)
	t.line("", "time", fmt.Sprintf("%.0f µs", ours), fmt.Sprintf("%.0f µs", drivers),
		fmt.Sprintf("%.1f ± %.1f %%", percent, 100*ratio.doubt()), fmt.Sprintf("%d %%", mostTime), verdict(percent <= mostTime))
}
