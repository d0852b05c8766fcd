package opendsn_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/examples/internal/testbed"
	"github.com/keyturn/keyturn/examples/opendsn"
	"github.com/keyturn/keyturn/smtest"
)

var (
	bed *testbed.Bed

	// sm is secretsmanager.NewFromConfig(cfg) in a program.
	sm *secretsmanager.Client
)

// password has what ends a password in a URL, in a keyword/value string, or in
// what somebody has made of either.
const password = `p@ss/w:rd?sslmode=require&x=1#%41 'q' "q" \`

func TestMain(m *testing.M) {
	var err error
	if bed, err = testbed.Start(context.Background(), password); err != nil {
		log.Fatal(err)
	}
	defer bed.Stop()
	sm = bed.SM.Client()
	m.Run()
}

func newCache(t *testing.T, client cache.API) *cache.Cache {
	t.Helper()
	c, err := cache.New(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Between setSecret and finishSecret the database wants what is still AWSPENDING.
func TestRotation(t *testing.T) {
	db, err := opendsn.Open(newCache(t, sm), "prod/db", url.Values{"sslmode": {"disable"}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(-1) // each Ping logs in
	before, err := bed.PG.FailedLogins("app")
	if err != nil {
		t.Fatal(err)
	}
	if err := bed.OpenWindow(t.Context(), password+rand.Text()); err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("in the window: %v", err)
	}
	if err := bed.CloseWindow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
	if n, err := bed.PG.FailedLogins("app"); n != before+1 || err != nil {
		t.Errorf("%d failed logins, %v; want the one that finds out", n-before, err)
	}
}

// What the driver cannot parse it quotes.
func TestErrorHidesThePassword(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"app","password":"p@ss","host":"no host"}`)
	db, err := opendsn.Open(newCache(t, srv.Client()), "prod/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.PingContext(t.Context())
	if err == nil || strings.Contains(err.Error(), "p%40ss") || strings.Contains(err.Error(), "p@ss") {
		t.Errorf("Ping: %v, want an error without the password", err)
	}
}

// A server that takes the connection and says nothing holds nobody beyond its
// context.
func TestConnectEndsWithItsContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // of the connections to come, the driver's end comes then
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", fmt.Sprintf(`{"username":"app","password":"p","host":"127.0.0.1","port":%d}`, listener.Addr().(*net.TCPAddr).Port))
	db, err := opendsn.Open(newCache(t, srv.Client()), "prod/db", url.Values{"sslmode": {"disable"}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping: %v", err)
	}
}
