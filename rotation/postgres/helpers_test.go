package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
	"github.com/keyturn/keyturn/smtest"
)

// server is shared by the tests; each has a user of its own.
var server *pgserver.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		server, err = pgserver.Start(context.Background(), &pgserver.Options{
			Settings: map[string]string{"log_statement": "all", "log_min_duration_statement": "0"},
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = server.Stop() }()
		defer func() {
			for _, replica := range startedReplicas {
				_ = replica.Stop()
			}
		}()
		return m.Run()
	}())
}

const (
	secretName = "prod/db"
	functionID = "arn:aws:lambda:us-east-1:123456789012:function:rotate"
)

var (
	steps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}
	users atomic.Int64
)

// fixture is a user of the server, and the secret that has its password.
type fixture struct {
	*smtest.Server

	t        *testing.T
	client   *secretsmanager.Client
	user     string
	database string
	admins   map[string]*pgx.Conn // by database
}

// admin returns the superuser's connection to a database, which stays open.
func (f *fixture) admin(database string) *pgx.Conn {
	f.t.Helper()
	if f.admins[database] == nil {
		cfg := server.ConnConfig()
		cfg.Database = database
		conn, err := pgx.ConnectConfig(f.t.Context(), cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
		if f.admins == nil {
			f.admins = make(map[string]*pgx.Conn)
		}
		f.admins[database] = conn
	}
	return f.admins[database]
}

// newUser makes a user with a database. The name gets a number, for -count.
func newUser(t *testing.T, srv *pgserver.Server, name, password string) string {
	t.Helper()
	if name == "" {
		name = "user"
	}
	name = fmt.Sprintf("%s%d", name, users.Add(1))
	if err := srv.CreateUser(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	return name
}

func secret(srv *pgserver.Server, user, password string, more map[string]any) string {
	m := map[string]any{
		"host": srv.Host(), "port": srv.Port(), "username": user, "password": password, "dbname": user, "engine": "postgres",
	}
	for k, v := range more {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func newFixture(t *testing.T, name, password string) *fixture {
	t.Helper()
	name = newUser(t, server, name, password)
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put(secretName, secret(server, name, password, nil))
	return &fixture{Server: srv, t: t, client: srv.Client(), user: name, database: name}
}

func (f *fixture) handler(opts *postgres.Options) *rotation.Handler {
	return rotation.NewHandler(f.client, postgres.NewTarget(opts), nil)
}

// rotate runs a whole rotation through the service.
func (f *fixture) rotate(h *rotation.Handler) error {
	f.t.Helper()
	f.AddFunction(functionID, smtest.Lambda(h.Handle))
	_, err := f.client.RotateSecret(f.t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.Wait(f.t.Context(), secretName)
}

// begin starts a rotation whose steps are left to the test.
func (f *fixture) begin() (token string) {
	f.t.Helper()
	f.AddFunction(functionID, func(context.Context, []byte) error { return errors.New("not delivered") })
	out, err := f.client.RotateSecret(f.t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Wait(f.t.Context(), secretName); err == nil {
		f.t.Fatal("the rotation that stops before its first step has succeeded")
	}
	return *out.VersionId
}

func run(ctx context.Context, h *rotation.Handler, token string, steps ...string) error {
	for _, step := range steps {
		err := h.Handle(ctx, rotation.Event{Step: step, SecretID: secretName, ClientRequestToken: token})
		if err != nil {
			return err
		}
	}
	return nil
}

// text returns the value of a label as it is stored, "" if there is none.
func (f *fixture) text(stage string) string {
	f.t.Helper()
	out, err := f.client.GetSecretValue(f.t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(secretName), VersionStage: aws.String(stage),
	})
	if err != nil {
		return ""
	}
	return *out.SecretString
}

// password returns the password of a label, "" if there is none.
func (f *fixture) password(stage string) string {
	f.t.Helper()
	return f.value(stage).Password
}

// logsIn reports whether the server takes the password. It does not go through
// what is tested.
func (f *fixture) logsIn(password string) bool {
	f.t.Helper()
	cfg := server.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = f.user, password, f.database
	conn, err := pgx.ConnectConfig(f.t.Context(), cfg)
	if err != nil {
		if !strings.Contains(err.Error(), "28P01") {
			f.t.Fatal(err)
		}
		return false
	}
	if err := conn.Close(f.t.Context()); err != nil {
		f.t.Error(err)
	}
	return true
}

// checkRotated checks that a rotation has ended well.
func (f *fixture) checkRotated(before string) {
	f.t.Helper()
	now := f.password("AWSCURRENT")
	if now == before {
		f.t.Error("AWSCURRENT has the old password")
	}
	if !f.logsIn(now) {
		f.t.Error("the server refuses AWSCURRENT")
	}
	if f.logsIn(before) {
		f.t.Error("the server accepts the old password")
	}
}
