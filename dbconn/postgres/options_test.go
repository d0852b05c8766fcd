package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

// A user that may not log in is refused as one with a wrong password is, with
// another code: the other user of the secret is tried.
func TestUserThatMayNotLogIn(t *testing.T) {
	working, password := newUser(t)
	srv, c := newCache(t, document(t, working, password))
	barred, password := newUser(t)
	srv.Put("prod/db", document(t, barred, password))
	admin, err := pgx.ConnectConfig(t.Context(), pg.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	if _, err := admin.Exec(t.Context(), "alter role "+barred+" nologin"); err != nil {
		t.Fatal(err)
	}
	user, _, err := whoami(t.Context(), open(t, c, nil))
	if err != nil || user != working {
		t.Errorf("logged in as %q, %v, want %s", user, err, working)
	}
	if n, err := pg.FailedLogins(barred); err != nil || n != 1 {
		t.Errorf("%d failed logins of the user that may not, %v, want 1", n, err)
	}
}

func TestPatienceAndLogger(t *testing.T) {
	name, _ := newUser(t)
	srv, c := newCache(t, document(t, name, "wrong"))
	// A rotation is under way, and no version is accepted.
	_, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: aws.String(document(t, name, "wrong too")), VersionStages: []string{cache.Pending},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db := open(t, c, &postgres.Options{Patience: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	// The default is a minute; the deadline is for that alone.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = db.PingContext(ctx)
	if !dbconn.IsRefused(err) || !strings.Contains(err.Error(), "the labels did not move within 1ms") {
		t.Errorf("Ping: %v, want the refusal, and that the patience of 1ms is over", err)
	}
	if got := strings.Count(log.String(), `level=WARN msg="login refused"`); got != 2 {
		t.Errorf("%d refusals logged, want 2, in %s", got, &log)
	}
	if strings.Contains(log.String(), "wrong") {
		t.Errorf("the log shows a password: %s", &log)
	}
}

func TestMaxConcurrentLogins(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	var tracer tracer
	connector, err := postgres.NewConnector(c, "prod/db", &postgres.Options{MaxConcurrentLogins: 1, Configure: tracer.configure})
	if err != nil {
		t.Fatal(err)
	}
	connect := func() {
		conn, err := connector.Connect(t.Context())
		if err != nil {
			t.Errorf("Connect: %v", err)
			return
		}
		if err := conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	connect() // the password is good: without the limit the others go side by side
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(connect)
	}
	wg.Wait()
	// The tracer may hear of a login's end when the next has begun.
	if started, peak, _ := tracer.Logins(); peak > 2 || started != 21 {
		t.Errorf("%d logins, %d at once, want 21, one by one", started, peak)
	}
}
