package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	dbpostgres "github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// A hundred rotations in a row, with pools whose connections live no longer: no caller has an error, and in the end the users may do what they could.
func TestHundredRotationsUnderLoad(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newPair(t, "")
			if err := f.as("AWSCURRENT", "CREATE TABLE t (x int)"); err != nil {
				t.Fatal(err)
			}
			want := f.everything(t, f.database, f.user)
			c, err := cache.New(f.client, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var queries atomic.Int64
			stop := load(t, c, &queries)
			h := f.handler(&postgres.Options{Strategy: strategy})
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			const rotations = 100
			for i := range rotations {
				for until := queries.Load() + 10; queries.Load() < until && !t.Failed(); {
					<-tick.C
				}
				if err := f.rotate(h); err != nil || t.Failed() {
					t.Fatalf("rotation %d: %v", i+1, err)
				}
			}
			stop()
			if n := queries.Load(); n < 10*rotations {
				t.Errorf("%d queries", n)
			}
			users := []string{f.user}
			if strategy == postgres.AlternatingUsers {
				users = append(users, f.user+"_clone")
			}
			for _, user := range users {
				if got := f.everything(t, f.database, user); !maps.Equal(got, want) {
					t.Errorf("%s may do %v in the end, in the beginning it was %v", user, got, want)
				}
			}
			t.Logf("%d queries in %d rotations", queries.Load(), rotations)
		})
	}
}

// load runs queries on a sql.DB and on a pgxpool.Pool until stop is called. Every
// error is the test's.
func load(t *testing.T, c *cache.Cache, queries *atomic.Int64) (stop func()) {
	t.Helper()
	db, err := dbpostgres.OpenDB(c, secretName, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	db.SetConnMaxLifetime(300 * time.Millisecond)
	pool, err := dbpostgres.NewPool(t.Context(), c, secretName, &dbpostgres.Options{DSN: "pool_max_conns=2 pool_max_conn_lifetime=300ms"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		const statement = "INSERT INTO t VALUES (1)"
		what, query := "database/sql", func() error { _, err := db.ExecContext(t.Context(), statement); return err }
		if i%2 == 1 {
			what, query = "pgxpool", func() error { _, err := pool.Exec(t.Context(), statement); return err }
		}
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				if err := query(); err != nil {
					t.Error(fmt.Errorf("%s: %w", what, err))
				}
				queries.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		pool.Close()
		_ = db.Close()
	})
	t.Cleanup(stop)
	return stop
}
