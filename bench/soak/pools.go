package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	godriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/retry"
)

const (
	// size is how many connections a pool may have, and workers.
	size = 6

	// lifetime is how long a connection is used. Pools of real programs keep them for
	// minutes, and have hundreds of them: a rotation meets as many logins.
	lifetime = 700 * time.Millisecond

	// shortTTL is that of half of the caches, which hear of a rotation by themselves;
	// the others have the default, and hear of it by a refusal. It is not shorter because
	// the refresh at about four fifths of it must have time for the longest denial.
	shortTTL   = 30 * time.Second
	defaultTTL = 5 * time.Minute

	statement = "SELECT pg_sleep(0.02)"
	mysqlForm = "DO SLEEP(0.02)"
)

// A pool is one of Keyturn's, or a control: the bare driver's, through the same
// network to the same server, with a user whose password never changes.
type pool struct {
	client

	name     string // how connections are had, and how the users rotate
	database *database
	control  *pool         // nil: this is one
	rotated  *secret       // nil: never
	ttl      time.Duration // 0: the default
	cache    *cache.Cache
	stats    retry.Stats
	tally    tally
}

// A client is a way to have connections.
type client interface {
	query(context.Context) error
	transact(context.Context) error
	close()
}

// connections says how a program has its connections.
type connections string

const (
	viaSQL connections = "database/sql"
	viaPgx connections = "pgxpool"
)

// close closes the pool, and the cache after it.
func (p *pool) close() {
	if p.client != nil {
		p.client.close()
	}
	if p.cache != nil {
		p.cache.Close()
	}
}

// open opens a pool of Keyturn's: as a program would, from a secret.
func (p *pool) open(ctx context.Context, via connections, api cache.API) error {
	c, err := cache.New(api, &cache.Options{TTL: p.ttl})
	if err != nil {
		return err
	}
	p.cache = c
	switch {
	case via == viaPgx:
		dsn := fmt.Sprintf("pool_max_conns=%d pool_max_conn_lifetime=%v pool_health_check_period=1s", size, lifetime)
		pool, err := postgres.NewPool(ctx, c, p.rotated.id, &postgres.Options{DSN: dsn, Stats: &p.stats})
		if err != nil {
			return err
		}
		p.client = pgxClient{pool}
	case p.database.name == "PostgreSQL":
		db, err := postgres.OpenDB(c, p.rotated.id, &postgres.Options{Stats: &p.stats})
		if err != nil {
			return err
		}
		p.client = newSQLClient(db, statement)
	default:
		db, err := mysql.OpenDB(c, p.rotated.id, &mysql.Options{Config: silent(), Stats: &p.stats})
		if err != nil {
			return err
		}
		p.client = newSQLClient(db, mysqlForm)
	}
	return nil
}

// openControl opens a pool of the bare driver's.
func (p *pool) openControl(ctx context.Context, via connections) error {
	user, password := "control_"+string(via[0]), rand.Text()
	if err := p.database.CreateUser(ctx, user, password); err != nil {
		return err
	}
	if p.database.name != "PostgreSQL" {
		cfg := silent()
		cfg.User, cfg.Passwd, cfg.DBName = user, password, user
		cfg.Net, cfg.Addr, cfg.Timeout = "tcp", p.database.network.Addr(), 10*time.Second
		connector, err := godriver.NewConnector(cfg)
		if err != nil {
			return err
		}
		p.client = newSQLClient(sql.OpenDB(connector), mysqlForm)
		return nil
	}
	dsn := fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable",
		p.database.Host(), p.database.network.Port(), user, password, user)
	if via == viaSQL {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return err
		}
		p.client = newSQLClient(stdlib.OpenDB(*cfg), statement)
		return nil
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cfg.MaxConns, cfg.MaxConnLifetime, cfg.HealthCheckPeriod = size, lifetime, time.Second
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	p.client = pgxClient{pool}
	return nil
}

// silent is a driver's configuration that logs nothing: what breaks here is told by
// the errors.
func silent() *godriver.Config {
	cfg := godriver.NewConfig()
	cfg.Logger = &godriver.NopLogger{}
	return cfg
}

// document returns the text of a secret, as AWS's own functions have it.
func (db *database) document(user, password, dbname string) string {
	text, err := json.Marshal(struct {
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Username string `json:"username"`
		Password string `json:"password"`
		Database string `json:"dbname,omitempty"`
	}{db.Host(), db.network.Port(), user, password, dbname})
	if err != nil {
		panic(err) // strings and numbers have no way to fail
	}
	return string(text)
}

// sqlClient is a pool of database/sql's.
type sqlClient struct {
	db        *sql.DB
	statement string
}

func newSQLClient(db *sql.DB, statement string) sqlClient {
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxLifetime(lifetime)
	return sqlClient{db, statement}
}

func (c sqlClient) close() { _ = c.db.Close() }

func (c sqlClient) query(ctx context.Context) error {
	_, err := c.db.ExecContext(ctx, c.statement)
	return err
}

func (c sqlClient) transact(ctx context.Context) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 3 {
		if _, err := tx.ExecContext(ctx, c.statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// pgxClient is a pool of pgx's.
type pgxClient struct{ pool *pgxpool.Pool }

func (c pgxClient) close() { c.pool.Close() }

func (c pgxClient) query(ctx context.Context) error {
	_, err := c.pool.Exec(ctx, statement)
	return err
}

func (c pgxClient) transact(ctx context.Context) error {
	tx, err := c.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for range 3 {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}
