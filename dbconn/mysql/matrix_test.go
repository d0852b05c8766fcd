package mysql_test

import (
	"context"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/loadtest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
)

// All kinds of rotations under load, on both servers side by side: no query fails.
func TestMatrix(t *testing.T) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, kind := range []mysqlserver.Kind{mysqlserver.MariaDB, mysqlserver.MySQL} {
		wg.Go(func() {
			t.Run(string(kind), func(t *testing.T) {
				srv, _ := newServer(t, kind, map[string]string{"max_connections": "600"})
				loadtest.Matrix{
					Server:   srv,
					Document: func(user, password string) string { return document(t, srv, user, password) },
					Pools:    []loadtest.Pool{{Name: "sql", Open: openDB}},
					AtOnce:   5,
				}.Run(t)
			})
		})
	}
}

func openDB(t *testing.T, c *cache.Cache, tr *loadtest.Trace) (query func(context.Context) error, done func()) {
	t.Helper()
	db, err := mysql.OpenDB(c, "prod/db", &mysql.Options{Stats: &tr.Stats, OnEvent: tr.OnEvent, Logger: tr.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(loadtest.Size)
	db.SetMaxIdleConns(loadtest.Idle)
	db.SetConnMaxLifetime(loadtest.Lifetime)
	return func(ctx context.Context) error { _, err := db.ExecContext(ctx, "do sleep(0.02)"); return err }, func() { _ = db.Close() }
}
