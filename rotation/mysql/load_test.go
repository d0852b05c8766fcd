package mysql_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	dbmysql "github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// 100 rotations in a row, of one user and of two, under a pool that connects all the time: none of its
// callers sees an error.
func TestUnderLoad(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		t.Parallel()
		f := newFixture(t, srv, w, "", "first")
		c, err := cache.New(f.client, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		db, err := dbmysql.OpenDB(c, secretName, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		const workers = 3
		db.SetMaxOpenConns(workers)
		db.SetConnMaxLifetime(20 * time.Millisecond)

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var queries atomic.Int64
		for range workers {
			wg.Go(func() {
				ticker := time.NewTicker(5 * time.Millisecond)
				defer ticker.Stop()
				for ctx.Err() == nil {
					<-ticker.C
					var n int
					err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM t").Scan(&n)
					if ctx.Err() != nil {
						return // the query was cut off by our own end
					}
					if err != nil {
						t.Errorf("after %d queries: %v", queries.Load(), err)
						return
					}
					queries.Add(1)
				}
			})
		}
		rotations := 100
		switch {
		case w.strategy == mysql.SingleUserBySuperuser:
			rotations = 25 // to the pool it is the same as the first
		case w.bare && w.strategy == mysql.SingleUser:
			rotations = 10 // each has a time in which the pool waits
		}
		h := f.handler(nil)
		for i := range rotations {
			before := f.version("AWSCURRENT")
			if err := f.rotate(h); err != nil {
				t.Errorf("rotation %d: %v", i+1, err)
				break
			}
			if i+1 == rotations {
				f.checkRotated(before)
			}
		}
		cancel()
		wg.Wait()
		if n := queries.Load(); n < int64(rotations) {
			t.Errorf("%d queries in %d rotations", n, rotations)
		}
		t.Logf("%d rotations, %d queries", rotations, queries.Load())
	})
}
