package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/smtest"
)

// pg is the server of all tests of this package. Each makes users of its own.
var pg *pgserver.Server

func TestMain(m *testing.M) {
	// What the developer's shell says must not decide a test.
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	server, err := pgserver.Start(context.Background(), &pgserver.Options{MaxConnections: 100})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pg = server
	code := m.Run()
	if err := pg.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// newUser creates a login role with a database of its own, and returns its name
// and password.
func newUser(t *testing.T) (name, password string) {
	t.Helper()
	return newUserOf(t, pg)
}

// newUserOf is newUser on another server.
func newUserOf(t *testing.T, srv *pgserver.Server) (name, password string) {
	t.Helper()
	name, password = "u"+strings.ToLower(rand.Text()[:10]), rand.Text()
	if err := srv.CreateUser(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	return name, password
}

// document returns a secret as AWS writes it, for a user of pg.
func document(t *testing.T, user, password string) string {
	t.Helper()
	return documentOf(t, pg, user, password)
}

// documentOf is document for a user of another server.
func documentOf(t *testing.T, srv *pgserver.Server, user, password string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"engine": "postgres", "username": user, "password": password,
		"host": srv.Host(), "port": srv.Port(), "dbname": user,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newCache returns a server that holds the secret prod/db, and a cache over it.
func newCache(t *testing.T, secret string) (*smtest.Server, *cache.Cache) {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put("prod/db", secret)
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return srv, c
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
