package postgres_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/loadtest"
	"github.com/keyturn/keyturn/internal/pgserver"
)

// All kinds of rotations under load: no query fails.
func TestMatrix(t *testing.T) {
	srv := quick{newServer(t, &pgserver.Options{MaxConnections: 600, Settings: map[string]string{"log_connections": "off"}})}
	loadtest.Matrix{
		Server:   srv,
		Document: func(user, password string) string { return documentOf(t, srv.Server, user, password) },
		Pools:    []loadtest.Pool{{Name: "pgxpool", Open: openPool}, {Name: "sql", Open: openDB}},
		AtOnce:   8,
	}.Run(t)
}

const moment = "select pg_sleep(0.02)"

func openPool(t *testing.T, c *cache.Cache, tr *loadtest.Trace) (query func(context.Context) error, done func()) {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), c, "prod/db", &postgres.Options{
		DSN:   fmt.Sprintf("pool_max_conns=%d pool_max_conn_lifetime=%v pool_health_check_period=20ms", loadtest.Size, loadtest.Lifetime),
		Stats: &tr.Stats, OnEvent: tr.OnEvent, Logger: tr.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) error { _, err := pool.Exec(ctx, moment); return err }, pool.Close
}

func openDB(t *testing.T, c *cache.Cache, tr *loadtest.Trace) (query func(context.Context) error, done func()) {
	t.Helper()
	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{Stats: &tr.Stats, OnEvent: tr.OnEvent, Logger: tr.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(loadtest.Size)
	db.SetMaxIdleConns(loadtest.Idle)
	db.SetConnMaxLifetime(loadtest.Lifetime)
	return func(ctx context.Context) error { _, err := db.ExecContext(ctx, moment); return err }, func() { _ = db.Close() }
}

// quick is a server whose passwords take one round of SHA-256 to check. With the 4,096
// that are usual two thirds of the time of the matrix would be the client's hashing.
type quick struct{ *pgserver.Server }

func (q quick) CreateUser(ctx context.Context, name, password string) error {
	return q.Server.CreateUser(ctx, name, verifier(password))
}

func (q quick) SetPassword(ctx context.Context, name, password string) error {
	return q.Server.SetPassword(ctx, name, verifier(password))
}

// verifier returns what PostgreSQL would store for a password, and takes in its place.
// Source: RFC 5802, section 3, and RFC 7677.
func verifier(password string) string {
	const rounds = 1
	salt := []byte("salt")
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		panic(err)
	}
	key := func(name string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(name))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(key("Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, text(salt), text(stored[:]), text(key("Server Key")))
}
