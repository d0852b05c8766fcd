package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/smtest"
)

// prepared returns a cache that has a secret for a user of a server that the tests
// have started, and the Secrets Manager behind it. In a program the cache's client is
// secretsmanager.NewFromConfig(cfg).
func prepared(user string) (*cache.Cache, *smtest.Server) {
	if err := pg.CreateUser(context.Background(), user, "one"); err != nil {
		log.Fatal(err)
	}
	srv := smtest.New(nil)
	srv.Put("prod/db", secretOf(user, "one"))
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	return c, srv
}

func secretOf(user, password string) string {
	return fmt.Sprintf(`{"username":%q,"password":%q,"host":%q,"port":%d,"dbname":%[1]q}`, user, password, pg.Host(), pg.Port())
}

// A pool goes on through a rotation: here the database has the new password already,
// and Secrets Manager still calls the old one AWSCURRENT.
func ExampleNewPool() {
	ctx := context.Background()
	c, srv := prepared("pooled")
	defer srv.Close()
	defer c.Close()

	pool, err := postgres.NewPool(ctx, c, "prod/db", &postgres.Options{DSN: "pool_max_conns=10"})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close() // before the cache
	fmt.Println(pool.Ping(ctx))

	srv.StartRotation("prod/db", secretOf("pooled", "two"))
	if err := pg.SetPassword(ctx, "pooled", "two"); err != nil {
		log.Fatal(err)
	}
	pool.Reset() // so that it has to log in again
	fmt.Println(pool.Ping(ctx))
	// Output:
	// <nil>
	// <nil>
}

// A program that makes its own configuration keeps it, hooks included.
func ExampleConfigurePool() {
	ctx := context.Background()
	c, srv := prepared("configured")
	defer srv.Close()
	defer c.Close()

	cfg, err := pgxpool.ParseConfig("application_name=orders pool_max_conns=10")
	if err != nil {
		log.Fatal(err)
	}
	if err := postgres.ConfigurePool(cfg, c, "prod/db", nil); err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var user, program string
	err = pool.QueryRow(ctx, "select current_user, current_setting('application_name')").Scan(&user, &program)
	fmt.Println(user, program, err)
	// Output: configured orders <nil>
}

// A connection of its own, for LISTEN or replication.
func ExampleConnect() {
	ctx := context.Background()
	c, srv := prepared("listener")
	defer srv.Close()
	defer c.Close()

	conn, err := postgres.Connect(ctx, c, "prod/db", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "listen orders"); err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "notify orders, '4711'"); err != nil {
		log.Fatal(err)
	}
	n, err := conn.WaitForNotification(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.Channel, n.Payload)
	// Output: orders 4711
}

// A connector of database/sql, for what wraps one: tracing, a pool of one's own.
func ExampleNewConnector() {
	c, srv := prepared("connected")
	defer srv.Close()
	defer c.Close()

	connector, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(10)
	defer func() { _ = db.Close() }()
	fmt.Println(db.Ping())
	// Output: <nil>
}
