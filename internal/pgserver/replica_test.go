package pgserver_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/pgserver"
)

// What is written to the one is there on the other, after a moment, and cannot be
// written there.
func TestReplica(t *testing.T) {
	primary, err := pgserver.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = primary.Stop() }()
	replica, err := primary.Replica(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = replica.Stop() }()
	if replica.Port() == primary.Port() {
		t.Error("both have the same port")
	}
	if err := primary.CreateUser(t.Context(), "app", "password"); err != nil {
		t.Fatal(err)
	}
	cfg := replica.ConnConfig()
	cfg.User, cfg.Password = "app", "password"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		conn, err = pgx.ConnectConfig(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var recovers bool
	if err := conn.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&recovers); err != nil || !recovers {
		t.Errorf("pg_is_in_recovery() = %t, %v", recovers, err)
	}
}
