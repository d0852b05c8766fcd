package mysql_test

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

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/retry"
)

// A user whose password has expired, or that is locked, is left alone: the other
// user of the secret is tried.
func TestUserThatMayNotLogIn(t *testing.T) {
	for why, srv := range map[string]*mysqlserver.Server{"PASSWORD EXPIRE": mysqld, "ACCOUNT LOCK": mariadb} {
		working, workingPassword := newUser(t, srv)
		sm, c := newCache(t, document(t, srv, working, workingPassword))
		barred, password := newUser(t, srv)
		sm.Put("prod/db", document(t, srv, barred, password))
		admin(t, srv, "ALTER USER ?@'%' "+why, barred)
		user, _, err := whoami(t.Context(), open(t, c, nil))
		if err != nil || user != working {
			t.Errorf("%s: logged in as %q, %v, want %s", why, user, err, working)
		}
	}
}

// An account that the server has locked is not tried again at once.
func TestLockedAccount(t *testing.T) {
	name, password := newUser(t, mysqld)
	_, c := newCache(t, document(t, mysqld, name, password))
	admin(t, mysqld, "ALTER USER ?@'%' ACCOUNT LOCK", name)
	var events []retry.Event
	heard := make(chan struct{}, 100)
	stats := new(retry.Stats)
	connector, err := mysql.NewConnector(c, "prod/db", &mysql.Options{Stats: stats, OnEvent: func(e retry.Event) {
		if e.Kind == retry.LockedOut {
			events = append(events, e)
			heard <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := connector.Connect(t.Context()); !dbconn.IsRefused(err) || !strings.Contains(err.Error(), "Error 3118") {
			t.Errorf("Connect: %v, want error 3118", err)
		}
	}
	<-heard
	if n := stats.Logins.Load(); n != 1 || len(events) != 1 || events[0].Code != "3118" {
		t.Errorf("%d logins, events %+v, want 1 and the code 3118", n, events)
	}
}

// A login that was good, to a database that is not there, proves the password.
func TestGoodLoginToNoDatabase(t *testing.T) {
	name, password := newUser(t, mariadb)
	_, c := newCache(t, document(t, mariadb, name, password))
	stats := new(retry.Stats)
	if err := open(t, c, &mysql.Options{Database: "nowhere", Stats: stats}).PingContext(t.Context()); err == nil {
		t.Fatal("logged in to a database that is not there")
	}
	if stats.Proven.Load() != 1 || stats.Refused.Load() != 0 {
		t.Errorf("%d proven, %d refused, want 1, 0", stats.Proven.Load(), stats.Refused.Load())
	}
}

func TestPatienceAndLogger(t *testing.T) {
	name, _ := newUser(t, mariadb)
	srv, c := newCache(t, document(t, mariadb, name, "wrong one"))
	// A rotation is under way, and no version is accepted.
	_, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: aws.String(document(t, mariadb, name, "wrong too")), VersionStages: []string{cache.Pending},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db := open(t, c, &mysql.Options{Patience: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
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
	name, password := newUser(t, mysqld)
	_, c := newCache(t, document(t, mysqld, name, password))
	var tracer tracer
	connector, err := mysql.NewTracedConnector(c, "prod/db", &mysql.Options{MaxConcurrentLogins: 1}, tracer.begin)
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
	if started, peak, _ := tracer.Logins(); peak != 1 || started != 21 {
		t.Errorf("%d logins, %d at once, want 21, one by one", started, peak)
	}
}
