package mssql_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"testing"

	mssqldb "github.com/microsoft/go-mssqldb"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/examples/mssql"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// said is the error of go-mssqldb when the server says the numbers, in this order:
// it describes the last, and lists all.
func said(numbers ...int32) error {
	var all []mssqldb.Error
	for _, n := range numbers {
		all = append(all, mssqldb.Error{Number: n, State: 1, Class: 14})
	}
	err := all[len(all)-1]
	err.All = all
	return err
}

func TestVerdicts(t *testing.T) {
	d, err := mssql.NewDriver()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name                         string
		err                          error
		refused, refusesUser, locked bool
		code                         string
	}{
		{"wrong password", said(18456), true, false, false, "18456"},
		{"no such database", said(4060, 18456), false, false, false, "18456"},
		{"no default database", said(4064, 18456), false, false, false, "18456"},
		{"disabled", said(18470), false, true, false, "18470"},
		{"locked out", said(18486), false, false, true, "18486"},
		{"expired", said(18487), true, false, false, "18487"},
		{"must be changed", said(18488), true, false, false, "18488"},
		{"single user mode", said(18461), false, false, false, "18461"},
		{"network", &net.OpError{Op: "dial", Err: errors.New("refused")}, false, false, false, ""},
	} {
		if got := d.Refused(test.err); got != test.refused {
			t.Errorf("%s: Refused = %t", test.name, got)
		}
		if got := d.RefusesUser(test.err); got != test.refusesUser {
			t.Errorf("%s: RefusesUser = %t", test.name, got)
		}
		if got := d.LockedOut(test.err); got != test.locked {
			t.Errorf("%s: LockedOut = %t", test.name, got)
		}
		if got := d.Code(test.err); got != test.code {
			t.Errorf("%s: Code = %q, want %q", test.name, got, test.code)
		}
	}
}

// A dialer sees where the driver would go, and does not go there.
type dialer struct{ to string }

func (d *dialer) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	d.to = address
	return nil, errors.New("not today")
}

// login stands for a login in the place of go-mssqldb's: there is no SQL Server to
// test with.
type login func() (driver.Conn, error)

func (l login) Connect(context.Context) (driver.Conn, error) { return l() }
func (l login) Driver() driver.Driver                        { return nil }

type conn struct{ driver.Conn }

func newCache(t *testing.T, values ...string) *cache.Cache {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	for _, value := range values {
		srv.Put("prod/db", value)
	}
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const (
	first  = `{"engine":"sqlserver","host":"127.0.0.1","username":"app","password":"one"}`
	second = `{"engine":"sqlserver","host":"127.0.0.1","username":"app","password":"two"}`
)

// The connector dials the host of the secret, at SQL Server's port.
func TestConnector(t *testing.T) {
	d, err := mssql.NewDriver()
	if err != nil {
		t.Fatal(err)
	}
	seen := &dialer{}
	build := d.Connector
	d.Connector = func(credentials dbconn.Credentials) (driver.Connector, error) {
		inner, err := build(credentials)
		inner.(*mssqldb.Connector).Dialer = seen
		return inner, err
	}
	connector, err := dbconn.NewConnector(newCache(t, first), "prod/db", d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(t.Context()); err == nil || dbconn.IsRefused(err) {
		t.Errorf("Connect: %v, want the dialer's error", err)
	}
	if seen.to != "127.0.0.1:1433" {
		t.Errorf("dialled %q", seen.to)
	}
}

// The server lags behind and takes AWSPREVIOUS: it is found within one Connect.
func TestWalk(t *testing.T) {
	d, err := mssql.NewDriver()
	if err != nil {
		t.Fatal(err)
	}
	var stats retry.Stats
	d.Connector = func(credentials dbconn.Credentials) (driver.Connector, error) {
		return login(func() (driver.Conn, error) {
			if credentials.Password() != "one" {
				return nil, said(18456)
			}
			return conn{}, nil
		}), nil
	}
	connector, err := dbconn.NewConnector(newCache(t, first, second), "prod/db", d, &dbconn.Options{Stats: &stats})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := stats.Logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}
