//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/examples/internal/lambdaapi"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/smtest"
)

const (
	functionARN = "arn:aws:lambda:us-east-1:123456789012:function:rotation"
	accessKeyID = "ASIAROTATION00000000"
)

var (
	binary string // of this package, built as it is deployed
	pg     *pgserver.Server
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rotation-lambda")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "bootstrap")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if pg, err = pgserver.Start(ctx, nil); err != nil {
		return 1, err
	}
	defer func() { _ = pg.Stop() }()
	return m.Run(), nil
}

// A deployment is a secret with a database user of its own, and the function, whose
// role may do what the template says.
type deployment struct {
	sm       *smtest.Server
	secretID string // its ARN
	database string
	user     string // who AWSCURRENT is
	function *lambdaapi.Function
}

// deploy deploys the function for a secret with a user of its own. With a key the secret
// is encrypted under it; with a superuser, two users alternate.
func deploy(t *testing.T, user, key string, superuser bool) *deployment {
	t.Helper()
	d := &deployment{sm: smtest.New(nil), database: user, user: user}
	t.Cleanup(d.sm.Close)
	password := "first-p4ssword-of-" + user
	if err := pg.CreateUser(t.Context(), user, password); err != nil {
		t.Fatal(err)
	}
	secret, err := d.sm.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("prod/" + user), SecretString: aws.String(d.value(t, password)), KmsKeyId: some(key),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.secretID = *secret.ARN
	if key != "" {
		d.sm.AddKey(smtest.Key{ARN: key})
	}
	var admin string
	if superuser {
		admin = d.admin(t)
	}
	d.sm.AddCaller(smtest.Caller{
		ARN:         "arn:aws:sts::123456789012:assumed-role/rotation/rotation",
		AccessKeyID: accessKeyID,
		Policies:    policyDocuments(t, d.secretID, key, admin),
	})
	server := httptest.NewServer(d.sm)
	t.Cleanup(server.Close)
	d.function, err = lambdaapi.Start(t.Context(), &lambdaapi.Options{Binary: binary, Env: map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL,
		"AWS_ACCESS_KEY_ID":                accessKeyID,
		"SUPERUSER_SECRET_ARN":             admin,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.function.Stop)
	d.sm.AddFunction(functionARN, func(ctx context.Context, event []byte) error {
		_, err := d.function.Invoke(ctx, event)
		return err
	})
	return d
}

// admin makes the secret of the server's superuser, and returns its ARN.
func (d *deployment) admin(t *testing.T) string {
	t.Helper()
	cfg := pg.ConnConfig()
	value, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": pg.Host(), "port": pg.Port(), "username": cfg.User, "password": cfg.Password,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.sm.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("admin"), SecretString: aws.String(string(value)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.ARN
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// value returns the secret's value, as AWS writes it for databases.
func (d *deployment) value(t *testing.T, password string) string {
	t.Helper()
	value, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": pg.Host(), "port": pg.Port(), "dbname": d.database, "username": d.user, "password": password,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

// password returns the one that has the label, or nothing if none has it.
func (d *deployment) password(t *testing.T, stage string) string {
	t.Helper()
	out, err := d.sm.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(d.secretID), VersionStage: aws.String(stage),
	})
	if err != nil {
		return ""
	}
	var value struct {
		Password string `json:"password"`
	}
	if err := json.Unmarshal([]byte(*out.SecretString), &value); err != nil {
		t.Fatal(err)
	}
	return value.Password
}

// rotate has Secrets Manager rotate the secret, or reattempt the rotation that has
// failed, and returns how that ended.
func (d *deployment) rotate(t *testing.T) error {
	t.Helper()
	_, err := d.sm.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(d.secretID), RotationLambdaARN: aws.String(functionARN),
	})
	if err != nil && !strings.Contains(err.Error(), "That rotation will be reattempted.") {
		t.Fatal(err)
	}
	return d.sm.Wait(t.Context(), d.secretID)
}

// login reports whether the server lets the user in with the password.
func (d *deployment) login(t *testing.T, password string) error {
	t.Helper()
	cfg := pg.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = d.user, password, d.database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		return err
	}
	return conn.Close(t.Context())
}

// shows reports, as an error of t, a password in what the function has written.
func (d *deployment) shows(t *testing.T, passwords ...string) {
	t.Helper()
	for _, password := range passwords {
		if password != "" && strings.Contains(d.function.Log(), password) {
			t.Errorf("the function's output shows a password:\n%s", d.function.Log())
		}
	}
}

// The four events rotate the secret, with the permissions of the template and no
// others, with a key of one's own and without.
func TestRotation(t *testing.T) {
	for user, key := range map[string]string{"plain": "", "encrypted": exampleKey} {
		t.Run(user, func(t *testing.T) {
			d := deploy(t, user, key, false)
			for range 2 {
				before := d.password(t, "AWSCURRENT")
				if err := d.rotate(t); err != nil {
					t.Fatal(err)
				}
				after := d.password(t, "AWSCURRENT")
				if after == before || d.password(t, "AWSPREVIOUS") != before {
					t.Error("AWSCURRENT is not new, or AWSPREVIOUS not what it was")
				}
				if err := d.login(t, after); err != nil {
					t.Errorf("the new password: %v", err)
				}
				if err := d.login(t, before); err == nil {
					t.Error("the server accepts the old password")
				}
				d.shows(t, before, after)
			}
			if got := strings.Count(d.function.Log(), `"msg":"rotation step done"`); got != 8 {
				t.Errorf("%d steps in the log of two rotations:\n%s", got, d.function.Log())
			}
		})
	}
}

// With a superuser's secret two users take turns, so that the credential of before goes on.
func TestAlternatingUsers(t *testing.T) {
	d := deploy(t, "turns", "", true)
	for _, want := range []string{"turns_clone", "turns"} {
		before, first := d.user, d.password(t, "AWSCURRENT")
		if err := d.rotate(t); err != nil {
			t.Fatal(err)
		}
		if err := d.login(t, first); err != nil {
			t.Errorf("the credential of %s, which is AWSPREVIOUS now: %v", before, err)
		}
		d.user = want
		after := d.password(t, "AWSCURRENT")
		if err := d.login(t, after); err != nil {
			t.Errorf("the new credential: %v", err)
		}
		d.shows(t, first, after, pg.ConnConfig().Password)
	}
}

// Whatever a step fails with, what the function answers, and logs, is the step, the
// version and what to do, and no value. The function goes on, and the rotation is
// finished when the cause is gone.
func TestFailure(t *testing.T) {
	for _, test := range []struct {
		user   string // so called, as it has one of its own
		fail   func(t *testing.T, d *deployment) (repair func())
		step   string
		reason string
	}{
		{"refused", func(t *testing.T, d *deployment) func() {
			password := d.password(t, "AWSCURRENT")
			set(t, d, "changed-by-hand")
			return func() { set(t, d, password) }
		}, "setSecret", "refused"},
		{"denied", func(_ *testing.T, d *deployment) func() {
			return d.sm.Inject(smtest.Fault{Operation: "PutSecretValue", Err: smtest.AccessDenied})
		}, "createSecret", "AccessDenied"},
		{"down", func(t *testing.T, _ *deployment) func() {
			pg.Interrupt()
			return func() {
				if err := pg.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}, "setSecret", pg.Host()},
	} {
		t.Run(test.user, func(t *testing.T) {
			d := deploy(t, test.user, "", false)
			first := d.password(t, "AWSCURRENT")
			repair := test.fail(t, d)
			err := d.rotate(t)
			pending := d.password(t, "AWSPENDING")
			repair()
			failed, ok := errors.AsType[*lambdaapi.Error](err)
			if !ok {
				t.Fatalf("the rotation ended with %v, want the function's error", err)
			}
			for _, want := range []string{test.step, test.reason, d.secretID} {
				if !strings.Contains(failed.Message, want) {
					t.Errorf("the error does not say %q: %s", want, failed.Message)
				}
			}
			if failed.Type != "Error" { // rotation.Error, without its package
				t.Errorf("the error's type is %q", failed.Type)
			}
			passwords := []string{first, pending, "changed-by-hand"}
			if slices.ContainsFunc(passwords, func(p string) bool { return p != "" && strings.Contains(failed.Sent, p) }) {
				t.Errorf("the error shows a password: %s", failed.Sent)
			}
			if got := d.password(t, "AWSCURRENT"); got != first {
				t.Error("a rotation that failed has changed AWSCURRENT")
			}
			if err := d.rotate(t); err != nil {
				t.Fatalf("repaired and repeated: %v", err)
			}
			if err := d.login(t, d.password(t, "AWSCURRENT")); err != nil {
				t.Error(err)
			}
			d.shows(t, append(passwords, d.password(t, "AWSCURRENT"))...)
		})
	}
}

func set(t *testing.T, d *deployment, password string) {
	t.Helper()
	if err := pg.SetPassword(t.Context(), d.user, password); err != nil {
		t.Fatal(err)
	}
}

// What is no event of a rotation is refused, and changes nothing.
func TestOtherEvents(t *testing.T) {
	d := deploy(t, "other", "", false)
	for _, event := range []string{
		`{}`,
		`{"Step":"dropSecret","SecretId":"` + d.secretID + `","ClientRequestToken":"00000000-0000-0000-0000-000000000000"}`,
		`{"Step":"setSecret","SecretId":"` + d.secretID + `","ClientRequestToken":"00000000-0000-0000-0000-000000000000"}`,
		`"a string"`,
	} {
		_, err := d.function.Invoke(t.Context(), []byte(event))
		if _, ok := errors.AsType[*lambdaapi.Error](err); !ok {
			t.Errorf("%s: %v, want the function's error", event, err)
		}
	}
	if d.sm.Count("PutSecretValue")+d.sm.Count("UpdateSecretVersionStage") > 0 {
		t.Errorf("calls that write: %v", d.sm.Calls())
	}
	if err := d.login(t, d.password(t, "AWSCURRENT")); err != nil {
		t.Error(err)
	}
}
