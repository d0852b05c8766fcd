package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/retire"
)

// pg is a server of the tests' own, started when the first of them wants it.
var pg = sync.OnceValues(func() (*pgserver.Server, error) {
	server, err := pgserver.Start(context.Background(), &pgserver.Options{MaxConnections: 50})
	if err == nil {
		err = server.CreateUser(context.Background(), "bench", "p4ssword")
	}
	return server, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if server, err := pg(); err == nil {
			_ = server.Stop()
		}
	}
	os.Exit(code)
}

var started bool

// opened opens a connection and closes it.
type opened func(context.Context) error

// connects returns the ways to open a connection to one server: the drivers' own,
// and those of Keyturn.
func connects(tb testing.TB) map[string]opened {
	tb.Helper()
	started = true
	server, err := pg()
	if err != nil {
		tb.Fatal(err)
	}
	secret, err := json.Marshal(map[string]any{
		"engine": "postgres", "username": "bench", "password": "p4ssword", "host": server.Host(), "port": server.Port(), "dbname": "bench",
	})
	if err != nil {
		tb.Fatal(err)
	}
	c, err := cache.New(cache.Static(map[string]string{"prod/db": string(secret)}), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)

	bare, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=bench password=p4ssword dbname=bench sslmode=disable", server.Host(), server.Port()))
	if err != nil {
		tb.Fatal(err)
	}
	ours, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		tb.Fatal(err)
	}
	pool, err := pgxpool.ParseConfig("")
	if err != nil {
		tb.Fatal(err)
	}
	if err := postgres.ConfigurePool(pool, c, "prod/db", nil); err != nil {
		tb.Fatal(err)
	}
	// What a pool does for each connection.
	construct := func(ctx context.Context, cfg *pgx.ConnConfig, before func(context.Context, *pgx.ConnConfig) error) error {
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
	connect := func(ctx context.Context, connector driver.Connector) error {
		conn, err := connector.Connect(ctx)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return map[string]opened{
		"sql/impl=bare":     func(ctx context.Context) error { return connect(ctx, stdlib.GetConnector(*bare)) },
		"sql/impl=keyturn":  func(ctx context.Context) error { return connect(ctx, ours) },
		"pool/impl=bare":    func(ctx context.Context) error { return construct(ctx, bare, nil) },
		"pool/impl=keyturn": func(ctx context.Context) error { return construct(ctx, pool.ConnConfig, pool.BeforeConnect) },
	}
}

func BenchmarkConnect(b *testing.B) {
	for name, open := range connects(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := open(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A connect through Keyturn allocates little more than the driver's own.
func TestConnectAllocations(t *testing.T) {
	ways := connects(t)
	for _, kind := range []string{"sql", "pool"} {
		var n [2]float64
		for i, impl := range []string{"bare", "keyturn"} {
			open := ways[kind+"/impl="+impl]
			n[i] = testing.AllocsPerRun(50, func() {
				if err := open(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
		t.Logf("%s: %v allocations, the driver alone %v", kind, n[1], n[0])
		if n[1] > n[0]+48 {
			t.Errorf("%s: %v allocations more than the driver's, want 48 at most", kind, n[1]-n[0])
		}
	}
}

// What Keyturn costs a query on an open connection: the question at checkout
// whether it is to make room.
func BenchmarkCheckout(b *testing.B) {
	c, err := cache.New(cache.Static(map[string]string{"prod/db": "{}"}), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	h := c.Handle("prod/db")
	s, err := h.Get(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	conn := retire.New(retire.Options{Cache: c, Handle: h}).Open(s)
	b.ReportAllocs()
	for b.Loop() {
		if conn.Retired() {
			b.Fatal("retired")
		}
	}
}
