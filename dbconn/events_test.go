package dbconn_test

import (
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// What a driver says of its errors reaches events and counts, with the server's
// name, and decides what is tried.
func TestWhatTheDriverSays(t *testing.T) {
	locked, unwanted, noDatabase := errors.New("locked"), errors.New("unwanted"), errors.New("no such database")
	for name, test := range map[string]struct {
		err     error
		tries   int // by ten callers, one after the other
		refused bool
		events  string // of the first
	}{
		"refused":        {errRefused, 2, true, "tried refused quarantined tried refused quarantined"},
		"locked out":     {locked, 1, true, "tried refused locked_out"},
		"user unwanted":  {unwanted, 10, true, "tried refused"},
		"login was good": {noDatabase, 10, false, "tried proven"},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := smtest.New(nil)
			defer srv.Close()
			srv.Put("prod/db", document("one"))
			srv.Put("prod/db", document("two"))
			c, err := cache.New(srv.Client(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			tries := 0
			d := testDriver(func(dbconn.Credentials) error { tries++; return test.err }).driver()
			d.LockedOut = func(err error) bool { return errors.Is(err, locked) }
			d.RefusesUser = func(err error) bool { return errors.Is(err, unwanted) }
			d.Accepts = func(err error) bool { return errors.Is(err, noDatabase) }
			d.Code = func(err error) string { return "code of " + err.Error() }
			var mu sync.Mutex
			var events []string
			stats := new(retry.Stats)
			connector, err := dbconn.NewConnector(c, "prod/db", d, &dbconn.Options{Stats: stats, OnEvent: func(e retry.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Target != "h:1234" || e.SecretID != "prod/db" || e.Err != nil && e.Code != "code of "+test.err.Error() {
					t.Errorf("%s: event %+v", name, e)
				}
				events = append(events, string(e.Kind))
			}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				_, err := connector.Connect(t.Context())
				if !errors.Is(err, test.err) || dbconn.IsRefused(err) != test.refused {
					t.Errorf("%s: %v", name, err)
				}
				synctest.Wait()
				mu.Lock()
				if got := strings.Join(events, " "); i == 0 && got != test.events {
					t.Errorf("%s: events %s, want %s", name, got, test.events)
				}
				mu.Unlock()
			}
			if tries != test.tries || stats.Logins.Load() != uint64(tries) {
				t.Errorf("%s: %d logins, %d counted, want %d", name, tries, stats.Logins.Load(), test.tries)
			}
		})
	}
}

// Credentials know of the connection that is opened with them whether it is to make
// room.
func TestCredentialsRetire(t *testing.T) {
	for _, keep := range []bool{false, true} {
		var opened []dbconn.Credentials
		d := testDriver(func(c dbconn.Credentials) error { opened = append(opened, c); return nil })
		bubble(t, d, &dbconn.Options{KeepOld: keep}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, connector driver.Connector) {
			if _, err := connector.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := opened[0]
			if first.Retired() {
				t.Error("a connection retired that nothing is newer than")
			}
			srv.Put("prod/db", document("two"))
			time.Sleep(time.Second)
			if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
				t.Fatal(err)
			}
			if first.Retired() {
				t.Error("a connection retired before the newer version was proven")
			}
			synctest.Wait()
			time.Sleep(10 * time.Second)
			if first.Retired() == keep {
				t.Errorf("KeepOld %v: Retired = %v", keep, first.Retired())
			}
			if want := map[bool]int{false: 2, true: 1}[keep]; len(opened) != want {
				t.Errorf("KeepOld %v: %d logins, want %d", keep, len(opened), want)
			}
		})
	}
	if (dbconn.Credentials{}).Retired() {
		t.Error("credentials of nothing retired")
	}
}
