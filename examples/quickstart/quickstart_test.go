package quickstart_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/smtest"
)

// The example is run as it stands in the README: over HTTP, with the SDK's
// configuration from the environment. What it finds there is not AWS.
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
	pg, err := pgserver.Start(ctx, nil)
	if err != nil {
		return 1, err
	}
	defer func() { _ = pg.Stop() }()
	if err := pg.CreateUser(ctx, "app", "p4ssword"); err != nil {
		return 1, err
	}
	secret, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": pg.Host(), "port": pg.Port(), "dbname": "app", "username": "app", "password": "p4ssword",
	})
	if err != nil {
		return 1, err
	}
	sm := smtest.New(nil)
	defer sm.Close()
	sm.Put("prod/db", string(secret))
	server := httptest.NewServer(sm)
	defer server.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL,
		"AWS_REGION":                       "us-east-1",
		"AWS_ACCESS_KEY_ID":                "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":            "example",
		"AWS_CONFIG_FILE":                  os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE":      os.DevNull,
		"AWS_CA_BUNDLE":                    "",
	} {
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return 1, err
			}
		}
	}
	return m.Run(), nil
}

// The README shows the example as it is compiled and run here.
func TestReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(source), "func Example() {\n")
	body, _, ok2 := strings.Cut(body, "\t// Output")
	if !ok || !ok2 {
		t.Fatal("no Example with an output in example_test.go")
	}
	body = strings.ReplaceAll("\n"+body, "\n\t", "\n")
	if !strings.Contains(string(readme), body) {
		t.Errorf("README.md does not show the example:\n%s", body)
	}
}
