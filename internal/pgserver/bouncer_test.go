//go:build unix

package pgserver_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/pgserver"
)

// A server that was interrupted is the same one when it is resumed: data, port, log.
func TestInterruptAndResume(t *testing.T) {
	srv := startServer(t, nil)
	if err := srv.CreateUser(t.Context(), "u", "p"); err != nil {
		t.Fatal(err)
	}
	if _, err := login(t.Context(), srv, "u", "wrong"); err == nil {
		t.Fatal("logged in with a wrong password")
	}
	conn, err := login(t.Context(), srv, "u", "p")
	if err != nil {
		t.Fatal(err)
	}
	port := srv.Port()
	srv.Interrupt()
	srv.Interrupt() // nothing is left to do
	if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the connection outlived its server")
	}
	if _, err := login(t.Context(), srv, "u", "p"); err == nil {
		t.Error("somebody answers for the server")
	}
	if err := srv.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err = login(t.Context(), srv, "u", "p")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := srv.FailedLogins("u"); n != 1 || err != nil || srv.Port() != port {
		t.Errorf("%d failed logins, %v, port %d, want 1 and %d", n, err, srv.Port(), port)
	}
}

func TestBouncer(t *testing.T) {
	srv := startServer(t, nil)
	b, err := pgserver.StartBouncer(t.Context(), srv, &pgserver.BouncerOptions{Users: map[string]string{"listed": `p "q`}})
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"listed": `p "q`, "found": "r"} {
		if err := srv.CreateUser(t.Context(), user, password); err != nil {
			t.Fatal(err)
		}
		if err := through(t.Context(), b, user, password); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if err := through(t.Context(), b, user, "wrong"); err == nil || !strings.Contains(err.Error(), "08P01") {
			t.Errorf("%s with a wrong password: %v", user, err)
		}
	}
	if err := b.SetUsers(map[string]string{"listed": "changed"}); err != nil {
		t.Fatal(err)
	}
	if err := srv.SetPassword(t.Context(), "listed", "changed"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := through(t.Context(), b, "listed", "changed")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a new list: %v", err)
		}
	}
	for range 2 {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := through(t.Context(), b, "found", "r"); err == nil {
		t.Error("it answers after Stop")
	}
	if _, err := os.Stat(b.LogFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// through logs in through the bouncer.
func through(ctx context.Context, b *pgserver.Bouncer, user, password string) error {
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = b.Host(), uint16(b.Port()), user, password, user
	cfg.ConnectTimeout, cfg.DefaultQueryExecMode = 10*time.Second, pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "select 1")
	return errors.Join(err, conn.Close(ctx))
}
