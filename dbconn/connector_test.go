package dbconn_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

const sentinel = "s3nt!nel-Pa55w0rd"

var errRefused = errors.New("login refused")

// A testDriver is a driver whose servers accept what its function accepts.
type testDriver func(dbconn.Credentials) error

func (d testDriver) driver() dbconn.Driver {
	return dbconn.Driver{
		Connector: func(c dbconn.Credentials) (driver.Connector, error) {
			return testConnector{func() error { return d(c) }}, nil
		},
		Refused:     func(err error) bool { return errors.Is(err, errRefused) },
		DefaultPort: 1234,
	}
}

type testConnector struct{ login func() error }

func (c testConnector) Connect(context.Context) (driver.Conn, error) { return &testConn{}, c.login() }
func (c testConnector) Driver() driver.Driver                        { return nil }

type testConn struct{ driver.Conn }

func (*testConn) Close() error { return nil }

func newCache(t *testing.T, srv *smtest.Server) *cache.Cache {
	t.Helper()
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCredentialsOfASecret(t *testing.T) {
	tests := []struct {
		name, secret string
		opts         *dbconn.Options
		want         string // user password host port database
		err          string
	}{
		{name: "all fields", secret: `{"engine":"postgres","username":"u","password":"p","host":"h","port":5433,"dbname":"d"}`, want: "u p h 5433 d"},
		{name: "port as text", secret: `{"username":"u","password":"p","host":"h","port":"5433"}`, want: "u p h 5433 "},
		{name: "no port", secret: `{"username":"u","password":"p","host":"h"}`, want: "u p h 1234 "},
		{name: "null port", secret: `{"username":"u","password":"p","host":"h","port":null}`, want: "u p h 1234 "},
		{name: "any password", secret: `{"username":"u","password":" '\"\\%@:/\u00e9\ud83d\ude00\u0001","host":"h"}`, want: "u  '\"\\%@:/é😀\x01 h 1234 "},
		{
			name: "options go first", secret: `{"username":"u","password":"p","host":"h","port":5433,"dbname":"d"}`,
			opts: &dbconn.Options{Host: "o", Port: 7, Database: "e"}, want: "u p o 7 e",
		},
		{
			name: "host and port are one unit", secret: `{"username":"u","password":"p","host":"h","port":5433}`,
			opts: &dbconn.Options{Host: "o"}, want: "u p o 1234 ",
		},
		{name: "exact keys", secret: `{"username":"u","password":"p","Password":"q","HOST":"i","host":"h"}`, want: "u p h 1234 "},
		{name: "managed by RDS", secret: `{"username":"u","password":"p"}`, opts: &dbconn.Options{Host: "o"}, want: "u p o 1234 "},
		{
			name: "as AWS writes it for an instance", opts: &dbconn.Options{},
			secret: `{"engine":"postgres","username":"u","password":"p","host":"h","port":5433,"dbname":"d","dbInstanceIdentifier":"i","ssl":true,"masterarn":"a"}`, want: "u p h 5433 d",
		},
		{
			name:   "renamed keys",
			secret: `{"user":"u","pw":"p","server":"h","tcp":"5433","db":"d","username":"x","password":"x","host":"x","port":1,"dbname":"x"}`,
			opts:   &dbconn.Options{Keys: dbconn.Keys{Username: "user", Password: "pw", Host: "server", Port: "tcp", Database: "db"}}, want: "u p h 5433 d",
		},
		{
			name: "some keys renamed", secret: `{"user":"u","password":"p","host":"h"}`,
			opts: &dbconn.Options{Keys: dbconn.Keys{Username: "user"}}, want: "u p h 1234 ",
		},
		{name: "an engine in capitals", secret: `{"engine":"Postgres","username":"u","password":"p","host":"h"}`, want: "u p h 1234 "},
		{name: "no engine", secret: `{"engine":"","username":"u","password":"p","host":"h"}`, want: "u p h 1234 "},
		{
			name: "another engine", secret: `{"engine":"aurora-mysql","username":"u","password":"p","host":"h"}`,
			err: `secret "prod/db" (version VERSION): field "engine" names aurora-mysql, and this connector is for postgres; use the package for that`,
		},
		{
			name: "an engine that nobody knows", secret: `{"engine":"` + sentinel + `","username":"u","password":"p","host":"h"}`,
			err: `field "engine" names another engine`,
		},
		{
			name: "a renamed key that is missing", secret: `{"username":"u","password":"p","host":"h"}`,
			opts: &dbconn.Options{Keys: dbconn.Keys{Password: "pw"}}, err: `field "pw" is missing or empty`,
		},

		{name: "not JSON", secret: sentinel, err: `secret "prod/db" (version VERSION): not valid JSON (at byte 1)`},
		{name: "not an object", secret: `["` + sentinel + `"]`, err: `secret "prod/db" (version VERSION): a JSON array cannot be decoded`},
		{name: "no username", secret: `{"password":"` + sentinel + `","host":"h"}`, err: `secret "prod/db" (version VERSION): field "username" is missing or empty`},
		{name: "no password", secret: `{"username":"` + sentinel + `","host":"h"}`, err: `secret "prod/db" (version VERSION): field "password" is missing or empty`},
		{name: "password in capitals", secret: `{"username":"u","Password":"` + sentinel + `","host":"h"}`, err: `field "password" is missing or empty`},
		{name: "empty password", secret: `{"username":"u","password":"","host":"h"}`, err: `field "password" is missing or empty`},
		{name: "password a number", secret: `{"username":"u","password":314159,"host":"h"}`, err: `field "password" is not a string`},
		{name: "port a word", secret: `{"username":"u","password":"p","host":"h","port":"` + sentinel + `"}`, err: `secret "prod/db" (version VERSION): field "port" is not a number from 1 to 65535`},
		{name: "port too large", secret: `{"username":"u","password":"p","host":"h","port":65536}`, err: `field "port" is not a number from 1 to 65535`},
		{name: "port zero", secret: `{"username":"u","password":"p","host":"h","port":0}`, err: `field "port" is not a number from 1 to 65535`},
		{name: "port broken", secret: `{"username":"u","password":"p","host":"h","port":54.32}`, err: `field "port" is not a number from 1 to 65535`},
		{name: "port an object", secret: `{"username":"u","password":"p","host":"h","port":{"` + sentinel + `":1}}`, err: `field "port" is not a number from 1 to 65535`},
		{name: "no host anywhere", secret: `{"username":"u","password":"p"}`, err: `secret "prod/db" (version VERSION) has no field "host", and no option names a host; set Options.Host`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv := smtest.New(nil)
			defer srv.Close()
			version := srv.Put("prod/db", test.secret)
			var got string
			d := testDriver(func(c dbconn.Credentials) error {
				got = fmt.Sprintf("%s %s %s %d %s", c.Username, c.Password(), c.Host, c.Port, c.Database)
				return nil
			})
			driver := d.driver()
			driver.Engines = []string{"postgres", "aurora-postgresql"}
			connector, err := dbconn.NewConnector(newCache(t, srv), "prod/db", driver, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			_, err = connector.Connect(t.Context())
			if test.err == "" {
				if err != nil || got != test.want {
					t.Errorf("Connect with %q, %v, want %q", got, err, test.want)
				}
				return
			}
			want := strings.ReplaceAll(test.err, "VERSION", version)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Connect: %v, want %q", err, want)
			}
			leaktest.Check(t, sentinel, err)
			if strings.Contains(err.Error(), "314159") {
				t.Errorf("%q quotes the value", err)
			}
			if got != "" {
				t.Errorf("a login was made with %q", got)
			}
		})
	}
}

func TestNothingShowsThePassword(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"u","password":"`+sentinel+`","host":"h"}`)
	c := newCache(t, srv)
	var credentials dbconn.Credentials
	refusing := testDriver(func(c dbconn.Credentials) error { credentials = c; return errRefused })
	connector, err := dbconn.NewConnector(c, "prod/db", refusing.driver(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = connector.Connect(t.Context())
	if !dbconn.IsRefused(err) || !errors.Is(err, errRefused) {
		t.Fatalf("Connect: %v", err)
	}
	c.Close() // printing reads what the end of a flight still writes
	leaktest.Check(t, sentinel, credentials)
	leaktest.Check(t, sentinel, &credentials)
	leaktest.Check(t, sentinel, connector)
	leaktest.Check(t, sentinel, sql.OpenDB(connector))
	leaktest.Check(t, sentinel, err)
	if credentials.Password() != sentinel {
		t.Errorf("Password() = %q", credentials.Password())
	}
	if got := (dbconn.Credentials{}).Password(); got != "" {
		t.Errorf("zero Credentials: Password() = %q", got)
	}
}

// A driver may put the password into its messages.
func TestDriverThatQuotesThePassword(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"u","password":"`+sentinel+`","host":"h"}`)
	c := newCache(t, srv)
	for _, cause := range []error{errRefused, errors.New("network down")} {
		d := testDriver(func(c dbconn.Credentials) error {
			return fmt.Errorf("cannot log in with %q: %w", c.Password(), cause)
		})
		connector, err := dbconn.NewConnector(c, "prod/db", d.driver(), &dbconn.Options{Patience: -1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = connector.Connect(t.Context())
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), `cannot log in with "[redacted]"`) {
			t.Errorf("Connect: %v", err)
		}
		leaktest.Check(t, sentinel, err)
	}
}

// A driver that was given a data source name quotes the password as it stands there.
func TestDriverThatQuotesAnEscapedPassword(t *testing.T) {
	const password = `p@ss w/rd%"x+y`
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", fmt.Sprintf(`{"username":"u","password":%q,"host":"h"}`, password))
	c := newCache(t, srv)
	for _, form := range []string{
		password, url.QueryEscape(password), url.PathEscape(password), url.UserPassword("u", password).String()[2:], strconv.Quote(password),
	} {
		d := testDriver(func(dbconn.Credentials) error { return fmt.Errorf("cannot parse x://u:%s@h", form) })
		connector, err := dbconn.NewConnector(c, "prod/db", d.driver(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := connector.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot parse x://u:[redacted]@h") && !strings.Contains(err.Error(), `cannot parse x://u:"[redacted]"@h`) {
			t.Errorf("Connect of a driver that quotes %s: %v", form, err)
		}
	}
}

func TestDriverThatReturnsNothing(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"u","password":"p","host":"h"}`)
	d := dbconn.Driver{
		Connector: func(dbconn.Credentials) (driver.Connector, error) { return nil, nil },
		Refused:   func(error) bool { return false },
	}
	connector, err := dbconn.NewConnector(newCache(t, srv), "prod/db", d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), `logging in to h with secret "prod/db": Driver.Connector returned neither`) {
		t.Errorf("Connect: %v", err)
	}
}

// The secret's host changes with the version: the login moves to the new one.
func TestServerThatMoves(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"u","password":"p1","host":"old"}`)
	c := newCache(t, srv)
	accepts := map[string]string{"old": "p1"}
	var logins []string
	d := testDriver(func(c dbconn.Credentials) error {
		logins = append(logins, c.Host+" "+c.Password())
		if accepts[c.Host] != c.Password() {
			return errRefused
		}
		return nil
	})
	connector, err := dbconn.NewConnector(c, "prod/db", d.driver(), &dbconn.Options{Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Put("prod/db", `{"username":"u","password":"p2","host":"new"}`)
	accepts = map[string]string{"new": "p2"}
	// One refusal at the old server, and the cache is asked again at once: the
	// read of AWSCURRENT before the gate of MinRefresh is left to the walk.
	if _, err := connector.Connect(t.Context()); err != nil {
		t.Fatalf("Connect: %v (logins %q)", err, logins)
	}
	if last := logins[len(logins)-1]; last != "new p2" {
		t.Errorf("logins %q, want the last at the new server", logins)
	}
	for _, login := range logins {
		if login == "old p2" || login == "new p1" {
			t.Errorf("login %q mixes two versions", login)
		}
	}
}

// While a connect is under way another caller hears that the database has moved. What is
// wrong at the old server, whatever it is, is no answer to that.
func TestServerMovesBehindAConnect(t *testing.T) {
	gone := errors.New("no route to host")
	for _, when := range []string{"before the first version", "during the login"} {
		t.Run(when, func(t *testing.T) {
			srv := smtest.New(nil)
			defer srv.Close()
			srv.Put("prod/db", `{"username":"u","password":"p1","host":"old"}`)
			c := newCache(t, srv)
			move := func() {
				srv.Put("prod/db", `{"username":"u","password":"p2","host":"new"}`)
				if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
					t.Error(err)
				}
			}
			d := testDriver(func(credentials dbconn.Credentials) error {
				if credentials.Host == "new" {
					return nil
				}
				move()
				return gone
			}).driver()
			if when != "during the login" {
				d.Addresses = func(_ context.Context, credentials dbconn.Credentials) ([]dbconn.Address, error) {
					if credentials.Host == "old" {
						move()
					}
					return nil, nil
				}
			}
			connector, err := dbconn.NewConnector(c, "prod/db", d, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := connector.Connect(t.Context()); err != nil {
				t.Errorf("Connect: %v", err)
			}
		})
	}
}

func TestErrorsOfTheCachePass(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"u","password":"p","host":"h"}`)
	c := newCache(t, srv)
	d := testDriver(func(dbconn.Credentials) error { return nil }).driver()
	open := func(id string) error {
		connector, err := dbconn.NewConnector(c, id, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = connector.Connect(t.Context())
		return err
	}
	if err := open("prod/none"); !errors.Is(err, cache.ErrNotFound) || !strings.Contains(err.Error(), `"prod/none"`) || dbconn.IsRefused(err) {
		t.Errorf("missing secret: %v", err)
	}
	srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
	if err := open("prod/db"); err == nil || !strings.Contains(err.Error(), `secret "prod/db" (AWSCURRENT): AccessDeniedException`) {
		t.Errorf("denied: %v", err)
	}
	c.Close()
	if err := open("prod/db"); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestNewConnectorRejectsBadParameters(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	c, d := newCache(t, srv), testDriver(func(dbconn.Credentials) error { return nil }).driver()
	for want, call := range map[string]func() (driver.Connector, error){
		"the cache is nil":       func() (driver.Connector, error) { return dbconn.NewConnector(nil, "s", d, nil) },
		"the secret ID is empty": func() (driver.Connector, error) { return dbconn.NewConnector(c, "", d, nil) },
		"Driver.Connector and Driver.Refused must be set": func() (driver.Connector, error) {
			return dbconn.NewConnector(c, "s", dbconn.Driver{}, nil)
		},
		"Options.Port is set without Options.Host": func() (driver.Connector, error) {
			return dbconn.NewConnector(c, "s", d, &dbconn.Options{Port: 1})
		},
		"Options.Port is 65536": func() (driver.Connector, error) {
			return dbconn.NewConnector(c, "s", d, &dbconn.Options{Host: "h", Port: 65536})
		},
	} {
		if connector, err := call(); err == nil || connector != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewConnector = %v, %v, want %q", connector, err, want)
		}
	}
	connector, err := dbconn.NewConnector(c, "s", d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Driver().Open("dsn"); err == nil || !strings.Contains(err.Error(), "sql.OpenDB") {
		t.Errorf("Driver().Open: %v", err)
	}
}

func TestIsRefused(t *testing.T) {
	refusal := fmt.Errorf("open: %w", &retry.Error{SecretID: "s", Err: errRefused})
	if !dbconn.IsRefused(refusal) || dbconn.IsRefused(errRefused) || dbconn.IsRefused(nil) {
		t.Error("IsRefused tells refusals by *retry.Error")
	}
}

func ExampleNewConnector() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"app","password":"p1","host":"db.example"}`)
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Any driver: how to make a connector, and which errors are refusals.
	connector, err := dbconn.NewConnector(c, "prod/db", dbconn.Driver{
		Connector: func(c dbconn.Credentials) (driver.Connector, error) {
			fmt.Printf("log in to %s:%d as %s\n", c.Host, c.Port, c.Username)
			return testConnector{func() error { return nil }}, nil
		},
		Refused:     func(err error) bool { return errors.Is(err, errRefused) },
		DefaultPort: 1433,
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	fmt.Println(db.PingContext(context.Background()))
	// Output:
	// log in to db.example:1433 as app
	// <nil>
}

// Somebody has slipped while editing the secret: what was right before still is, until
// AWSCURRENT is of use again.
func TestSecretEditedIntoRubbish(t *testing.T) {
	const good = `{"username":"u","password":"good","host":"h"}`
	for _, rubbish := range []string{
		sentinel, `{"username":"u","password":"` + sentinel, `{"username":"u","password":"","host":"h"}`,
		`{"username":"u","host":"h"}`, `{"engine":"mysql","username":"u","password":"` + sentinel + `","host":"h"}`,
	} {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", good)
		c := newCache(t, srv)
		var log bytes.Buffer
		var tried []string
		accepts := "good"
		d := testDriver(func(c dbconn.Credentials) error {
			tried = append(tried, c.Password())
			if c.Password() != accepts {
				return errRefused
			}
			return nil
		}).driver()
		d.Engines = []string{"postgres"}
		connector, err := dbconn.NewConnector(c, "prod/db", d, &dbconn.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		connect := func(want ...string) {
			t.Helper()
			tried = nil
			if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := connector.Connect(t.Context()); err != nil {
					t.Errorf("%v", err)
				}
			}
			if !slices.Equal(tried, want) {
				t.Errorf("logins with %q, want %q", tried, want)
			}
		}
		connect("good", "good")
		srv.Put("prod/db", rubbish)
		c.Invalidate("prod/db")
		connect("good", "good")
		if n := strings.Count(log.String(), "AWSCURRENT is of no use"); n != 1 || strings.Contains(log.String(), sentinel) {
			t.Errorf("the log has it %d times:\n%s", n, &log)
		}

		// The password has changed besides, so that nothing is left.
		accepts = "newer"
		_, err = connector.Connect(t.Context())
		if !dbconn.IsRefused(err) || !strings.Contains(err.Error(), `secret "prod/db" (version `) {
			t.Errorf("%v, want the refusal of AWSPREVIOUS and what is wrong with AWSCURRENT", err)
		}
		leaktest.Check(t, sentinel, err)
		srv.Put("prod/db", strings.Replace(good, "good", "newer", 1))
		c.Invalidate("prod/db")
		connect("newer", "newer")
	}
}
