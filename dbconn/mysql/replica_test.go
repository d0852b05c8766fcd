package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// addressOf returns where a server is dialled.
func addressOf(srv *mysqlserver.Server) string {
	return net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
}

// pend stores a value of the secret prod/db as AWSPENDING, and returns its version.
func pend(t *testing.T, srv *smtest.Server, value string) string {
	t.Helper()
	out, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: aws.String(value), VersionStages: []string{cache.Pending},
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.VersionId
}

// promote moves AWSCURRENT to the version, as finishSecret does.
func promote(t *testing.T, srv *smtest.Server, version string) {
	t.Helper()
	current, err := srv.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String("prod/db"), VersionStage: aws.String(cache.Current),
		RemoveFromVersionId: current.VersionId, MoveToVersionId: aws.String(version),
	}); err != nil {
		t.Fatal(err)
	}
}

// One endpoint for two nodes, of which one lags. Each login lands on either.
func TestReaderEndpoint(t *testing.T) {
	eachServer(t, func(t *testing.T, first *mysqlserver.Server) {
		t.Parallel()
		lagging, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{Kind: first.Kind()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := lagging.Stop(); err != nil {
				t.Error(err)
			}
		})
		name, password := newUser(t, first)
		if err := lagging.CreateUser(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		sm, c := newCache(t, document(t, first, name, password))
		stats := new(retry.Stats)
		connector, err := mysql.NewSpreadConnector(c, "prod/db", &mysql.Options{Stats: stats}, func() []dbconn.Address {
			nodes := []dbconn.Address{{Addr: addressOf(first)}, {Addr: addressOf(lagging)}}
			rand.Shuffle(2, func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			return nodes
		})
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		defer func() { _ = db.Close() }()
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		db.SetConnMaxLifetime(100 * time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var queries atomic.Int64
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := db.ExecContext(t.Context(), "do 1"); err != nil {
						t.Errorf("a query failed: %v", err)
					}
					queries.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for i := range 3 {
			time.Sleep(300 * time.Millisecond)
			next := fmt.Sprint("password ", i)
			pending := pend(t, sm, document(t, first, name, next))
			if err := first.SetPassword(t.Context(), name, next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			promote(t, sm, pending)
			time.Sleep(time.Second)
			if err := lagging.SetPassword(t.Context(), name, next); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(300 * time.Millisecond)
		cancel()
		wg.Wait()
		failed := failures(t, first, name) + failures(t, lagging, name)
		if failed == 0 || failed != int(stats.Refused.Load()) {
			t.Errorf("%d failed logins on the servers, %d known of here", failed, stats.Refused.Load())
		}
		t.Logf("%d queries, %d logins, %d failed", queries.Load(), stats.Logins.Load(), failed)
	})
}

// A server has several addresses, of which those that cannot be dialled are passed by.
func TestAddresses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		for _, test := range []struct {
			addresses []string
			password  string
			want      string // part of the error; "": none
		}{
			{[]string{nobody, addressOf(srv)}, password, ""},
			{[]string{addressOf(srv), nobody}, password, ""},
			{nil, password, ""}, // as the secret says
			{[]string{nobody, nobody}, password, "connection refused"},
			{[]string{addressOf(srv), nobody}, "wrong", "refuses secret"},
			{[]string{nobody, addressOf(srv)}, "wrong", "refuses secret"},
		} {
			_, c := newCache(t, document(t, srv, name, test.password))
			connector, err := mysql.NewSpreadConnector(c, "prod/db", nil, func() (all []dbconn.Address) {
				for _, address := range test.addresses {
					all = append(all, dbconn.Address{Addr: address})
				}
				return all
			})
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(connector)
			err = db.PingContext(t.Context())
			_ = db.Close()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q: %v, want %q", test.addresses, err, test.want)
			}
			if refused := test.password == "wrong"; dbconn.IsRefused(err) != refused {
				t.Errorf("%q: %v: refused: %t", test.addresses, err, dbconn.IsRefused(err))
			}
		}
	})
}

// A host that is a name is looked up; what it is for TLS and for errors stays the name.
func TestHostIsAName(t *testing.T) {
	name, password := newUser(t, mariadb)
	_, c := newCache(t, strings.Replace(document(t, mariadb, name, password), `"127.0.0.1"`, `"localhost"`, 1))
	if _, _, err := whoami(t.Context(), open(t, c, nil)); err != nil {
		t.Error(err)
	}
	err := open(t, c, &mysql.Options{Host: "no-such-host.invalid"}).PingContext(t.Context())
	if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("%v", err)
	}
}
