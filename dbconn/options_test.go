package dbconn_test

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/smtest"
)

// bubble runs f in a synctest bubble with a connector to a secret whose password
// is p1, on a server that accepts what d accepts.
func bubble(t *testing.T, d testDriver, opts *dbconn.Options, f func(t *testing.T, srv *smtest.Server, c *cache.Cache, connector driver.Connector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", document("p1"))
		c, err := cache.New(srv.Client(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		connector, err := dbconn.NewConnector(c, "prod/db", d.driver(), opts)
		if err != nil {
			t.Fatal(err)
		}
		f(t, srv, c, connector)
	})
}

func document(password string) string {
	return fmt.Sprintf(`{"username":"u","password":%q,"host":"h"}`, password)
}

func TestMaxConcurrentLogins(t *testing.T) {
	var mu sync.Mutex
	flying, peak := 0, 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		flying += n
		peak = max(peak, flying)
	}
	slow := testDriver(func(dbconn.Credentials) error {
		count(1)
		defer count(-1)
		time.Sleep(10 * time.Millisecond)
		return nil
	})
	for _, limit := range []int{0, 3} {
		peak = 0
		bubble(t, slow, &dbconn.Options{MaxConcurrentLogins: limit}, func(t *testing.T, _ *smtest.Server, _ *cache.Cache, connector driver.Connector) {
			var wg sync.WaitGroup
			connect := func() {
				if _, err := connector.Connect(t.Context()); err != nil {
					t.Errorf("Connect: %v", err)
				}
			}
			connect() // the password is good: the others go side by side
			for range 20 {
				wg.Go(connect)
			}
			wg.Wait()
		})
		want := limit
		if limit == 0 {
			want = 20
		}
		if peak != want {
			t.Errorf("limit %d: %d logins at once, want %d", limit, peak, want)
		}
	}
}

func TestPatienceAndLogger(t *testing.T) {
	refusing := testDriver(func(dbconn.Credentials) error { return errRefused })
	for patience, want := range map[time.Duration]time.Duration{0: time.Minute, 20 * time.Second: 20 * time.Second, -1: 0} {
		var log bytes.Buffer
		opts := &dbconn.Options{Patience: patience, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		bubble(t, refusing, opts, func(t *testing.T, srv *smtest.Server, _ *cache.Cache, connector driver.Connector) {
			// A rotation is under way, and no version is accepted.
			_, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: aws.String("prod/db"), SecretString: aws.String(document(sentinel)), VersionStages: []string{cache.Pending},
			})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := connector.Connect(t.Context()); !dbconn.IsRefused(err) {
				t.Errorf("patience %v: Connect: %v, want a refusal", patience, err)
			}
			if waited := time.Since(start); waited != want {
				t.Errorf("patience %v: waited %v, want %v", patience, waited, want)
			}
			if got := strings.Count(log.String(), `level=WARN msg="login refused"`); got != 2 {
				t.Errorf("patience %v: %d refusals logged, want 2, in %s", patience, got, &log)
			}
			if strings.Contains(log.String(), sentinel) {
				t.Errorf("the log shows the password: %s", &log)
			}
		})
	}
}

// A version comes with every rotation, for years: the old ones are not kept.
func TestDecodedVersionsAreForgotten(t *testing.T) {
	var accepts string
	d := testDriver(func(c dbconn.Credentials) error {
		if c.Password() != accepts {
			return errRefused
		}
		return nil
	})
	bubble(t, d, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, connector driver.Connector) {
		for i := range 100 {
			accepts = fmt.Sprint("p", i)
			srv.Put("prod/db", document(accepts))
			if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
				t.Fatal(err)
			}
			if _, err := connector.Connect(t.Context()); err != nil {
				t.Errorf("rotation %d: %v", i, err)
			}
		}
		if n := dbconn.Decoded(connector); n > 8 {
			t.Errorf("%d versions are kept after 100 rotations, want 8 at most", n)
		}
	})
}

// A version that names another server is not tried in the place of one that this
// server refuses: whether that server is in use yet, AWSCURRENT will tell.
func TestVersionForAnotherServer(t *testing.T) {
	var logins []string
	d := testDriver(func(c dbconn.Credentials) error {
		logins = append(logins, c.Host+" "+c.Password())
		if c.Host != "new" {
			return errRefused
		}
		return nil
	})
	bubble(t, d, &dbconn.Options{Patience: -1}, func(t *testing.T, srv *smtest.Server, _ *cache.Cache, connector driver.Connector) {
		_, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: aws.String("prod/db"), SecretString: aws.String(`{"username":"u","password":"p2","host":"new"}`), VersionStages: []string{cache.Pending},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := connector.Connect(t.Context()); !dbconn.IsRefused(err) {
			t.Errorf("Connect: %v, want the refusal", err)
		}
		if got := strings.Join(logins, ", "); got != "h p1" {
			t.Errorf("logins %q, want h p1 alone", got)
		}
	})
}
