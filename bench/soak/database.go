package main

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	godriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/proxy"
)

// A database is a server with the network before it: whatever logs in goes through
// the proxy, the rotation functions too.
type database struct {
	engine

	name    string
	version string
	network *proxy.Proxy
}

// An engine is what the kinds of servers do each in their own way.
type engine interface {
	Host() string
	Port() int
	CreateUser(ctx context.Context, name, password string) error
	FailedLogins(user string) (int, error)
	Stop() error

	about(ctx context.Context) (version string, err error)

	// superuser returns a user who may rotate others.
	superuser(ctx context.Context) (name, password string, err error)

	// restart ends the server, and starts it again after the pause.
	restart(ctx context.Context, pause time.Duration) error

	// connect opens a connection of somebody else's, past the proxy.
	connect(ctx context.Context) (closeIt func(), err error)
}

// startDatabases starts a server of each kind, side by side.
func startDatabases(ctx context.Context) ([]*database, error) {
	all := []*database{{name: "PostgreSQL"}, {name: "MariaDB"}, {name: "MySQL"}}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, db := range all {
		wg.Go(func() { errs[i] = db.start(ctx) })
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

func (db *database) start(ctx context.Context) error {
	var err error
	if db.name == "PostgreSQL" {
		db.engine, err = startPostgres(ctx)
	} else {
		db.engine, err = startMySQL(ctx, mysqlserver.Kind(db.name))
	}
	if err != nil {
		db.engine = nil // an interface that holds a nil pointer is not nil
		return err
	}
	if db.version, err = db.about(ctx); err != nil {
		return err
	}
	db.network, err = proxy.New(net.JoinHostPort(db.Host(), strconv.Itoa(db.Port())))
	if err != nil {
		return err
	}
	db.network.Forget()
	return nil
}

func (db *database) stop() error {
	if db.network != nil {
		db.network.Close()
	}
	if db.engine == nil {
		return nil
	}
	return db.Stop()
}

const (
	// limit is how many connections a server has: some more than the pools and the
	// rotation functions take.
	limit = 60

	// crowdUser is who takes all of them.
	crowdUser = "crowd"
)

// crowd takes whatever connection of a server is free, and becomes free, until ctx
// ends. A lower limit would not do: PostgreSQL has none that it would heed while it
// runs, and MariaDB's is not below what the pools need.
func crowd(ctx context.Context, connect func(context.Context) (func(), error)) {
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				closeIt, err := connect(ctx)
				if err == nil {
					defer closeIt() // in the end, all of them
					continue
				}
				_ = sleep(ctx, 10*time.Millisecond)
			}
		})
	}
	all.Wait()
}

// pgEngine is PostgreSQL.
type pgEngine struct {
	*pgserver.Server

	crowdPassword func() string
}

func startPostgres(ctx context.Context) (engine, error) {
	srv, err := pgserver.Start(ctx, &pgserver.Options{MaxConnections: limit, Settings: map[string]string{
		// An hour of them is a log that nobody can read; refusals are in it all the same.
		"log_connections": "off", "log_checkpoints": "off", "autovacuum": "off",
	}})
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	e := &pgEngine{Server: srv, crowdPassword: func() string { return password }}
	if err := srv.CreateUser(ctx, crowdUser, password); err != nil {
		return nil, errors.Join(err, srv.Stop())
	}
	return e, nil
}

func (e *pgEngine) about(ctx context.Context) (string, error) {
	conn, err := pgx.ConnectConfig(ctx, e.ConnConfig())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	var version string
	err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	version, _, _ = strings.Cut(version, " ")
	return version, err
}

func (e *pgEngine) superuser(context.Context) (name, password string, err error) {
	cfg := e.ConnConfig()
	return cfg.User, cfg.Password, nil
}

func (e *pgEngine) restart(ctx context.Context, pause time.Duration) error {
	e.Interrupt()
	_ = sleep(ctx, pause) // the server is to be there in any case
	return e.Resume(context.WithoutCancel(ctx))
}

func (e *pgEngine) connect(ctx context.Context) (func(), error) {
	cfg := e.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = crowdUser, e.crowdPassword(), crowdUser
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
}

// myEngine is MariaDB or MySQL.
type myEngine struct {
	*mysqlserver.Server

	crowd driver.Connector
}

const adminUser = "soak"

func startMySQL(ctx context.Context, kind mysqlserver.Kind) (engine, error) {
	settings := map[string]string{
		// Logins that the network has broken off have a server lock the machine out that
		// they come from, after a hundred.
		"max_connect_errors": "1000000",
		"max_connections":    strconv.Itoa(limit),
	}
	if kind == mysqlserver.MySQL {
		// The least: what a login costs the server is not what this is about.
		settings["caching_sha2_password_digest_rounds"] = "5000"
	}
	srv, err := mysqlserver.Start(ctx, &mysqlserver.Options{Kind: kind, Settings: settings})
	if err != nil {
		return nil, err
	}
	srv.Admin().SetMaxIdleConns(-1) // one that a restart has cut fails to close
	cfg := silent()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = crowdUser, rand.Text(), "tcp", net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
	connector, err := godriver.NewConnector(cfg)
	if err == nil {
		err = srv.CreateUser(ctx, crowdUser, cfg.Passwd)
	}
	if err != nil {
		return nil, errors.Join(err, srv.Stop())
	}
	return &myEngine{srv, connector}, nil
}

func (e *myEngine) about(ctx context.Context) (string, error) {
	var version string
	err := e.Admin().QueryRowContext(ctx, "SELECT VERSION()").Scan(&version)
	version, _, _ = strings.Cut(version, "-")
	return version, err
}

func (e *myEngine) superuser(ctx context.Context) (name, password string, err error) {
	password = rand.Text()
	for _, statement := range []string{
		"CREATE USER " + adminUser + "@'%' IDENTIFIED BY '" + password + "'",
		"GRANT ALL ON *.* TO " + adminUser + "@'%' WITH GRANT OPTION",
	} {
		if _, err := e.Admin().ExecContext(ctx, statement); err != nil {
			return "", "", fmt.Errorf("making a superuser: %w", err)
		}
	}
	return adminUser, password, nil
}

func (e *myEngine) restart(ctx context.Context, _ time.Duration) error {
	return e.Restart(context.WithoutCancel(ctx)) // which takes long enough
}

func (e *myEngine) connect(ctx context.Context) (func(), error) {
	conn, err := e.crowd.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return func() { _ = conn.Close() }, nil
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventually tries until it succeeds, or ctx ends; then it returns the last error.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || sleep(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}
