// Package migrating_test holds the code of docs/migrating.md, compiled and run.
package migrating_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/examples/internal/testbed"
	"github.com/keyturn/keyturn/internal/mysqlserver"
)

// What the document takes for granted.
var (
	ctx = context.Background()
	sm  *secretsmanager.Client
)

var (
	bed   *testbed.Bed
	maria *mysqlserver.Server
)

func TestMain(m *testing.M) {
	var err error
	if bed, err = testbed.Start(ctx, "p4ssword"); err != nil {
		log.Fatal(err)
	}
	defer bed.Stop()
	if maria, err = mysqlserver.Start(ctx, &mysqlserver.Options{Kind: mysqlserver.MariaDB}); err != nil {
		log.Fatal(err)
	}
	defer func() { _ = maria.Stop() }()
	if err := maria.CreateUser(ctx, "app", "p4ssword"); err != nil {
		log.Fatal(err)
	}
	bed.SM.Put("prod/mysql", `{"engine":"mariadb","username":"app","password":"p4ssword"}`)
	bed.SM.Put("prod/api-key", "0123456789abcdef")
	sm = bed.SM.Client()
	server := httptest.NewServer(bed.SM)
	defer server.Close()
	for name, value := range map[string]string{
		"DATABASE_DSN":                     fmt.Sprintf("host=%s port=%d dbname=app sslmode=disable", bed.PG.Host(), bed.PG.Port()),
		"MYSQL_DSN":                        fmt.Sprintf("tcp(%s:%d)/", maria.Host(), maria.Port()),
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL,
		"AWS_ACCESS_KEY_ID":                "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":            "example",
		"AWS_CONFIG_FILE":                  os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE":      os.DevNull,
		"AWS_CA_BUNDLE":                    "",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
	}
	m.Run()
}

// The document shows the code as it is here, all of it and nothing else.
func TestDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, function := range strings.Split(string(source), "\nfunc ")[1:] {
			_, body, _ := strings.Cut(function, "{\n")
			if body, _, ok := strings.Cut(body, "\t// Output"); ok {
				code = append(code, strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:])
			}
		}
	}
	shown := make(map[string]bool)
	for _, block := range strings.Split(string(document), "```go\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		shown[block] = true
	}
	for _, block := range code {
		if !shown[block] {
			t.Errorf("docs/migrating.md does not show:\n%s", block)
		}
		delete(shown, block)
	}
	for block := range shown {
		t.Errorf("docs/migrating.md shows what is not compiled:\n%s", block)
	}
}

// What the document says of the time between setSecret and finishSecret.
func TestWindow(t *testing.T) {
	if err := bed.OpenWindow(ctx, rand.Text()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bed.CloseWindow(ctx); err != nil {
			t.Error(err)
		}
	}()
	if out := output(t, Example_hookBefore); !strings.Contains(out, "28P01") {
		t.Errorf("with the hook: %s", out)
	}
	for name, example := range map[string]func(){
		"ConfigurePool": Example_hookAfter, "OpenDB": Example_hookAfterSQL, "in the place of the wrapper": Example_wrapperAfter,
	} {
		if out := output(t, example); out != "<nil>\n" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// The same with MySQL.
func TestMySQLWindow(t *testing.T) {
	const user = "app"
	password := rand.Text()
	_, err := sm.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId:      aws.String("prod/mysql"),
		SecretString:  aws.String(fmt.Sprintf(`{"engine":"mariadb","username":%q,"password":%q}`, user, password)),
		VersionStages: []string{"AWSPENDING"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := maria.SetPassword(ctx, user, password); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := maria.SetPassword(ctx, user, "p4ssword"); err != nil {
			t.Error(err)
		}
	}()
	if out := output(t, Example_mysqlBefore); !strings.Contains(out, "Error 1045") {
		t.Errorf("with the hook: %s", out)
	}
	if out := output(t, Example_mysqlAfter); out != "<nil>\n" {
		t.Errorf("OpenDB: %s", out)
	}
}

// What the document says of the calls that a read costs.
func TestCalls(t *testing.T) {
	for name, example := range map[string]struct {
		run      func()
		get, all int
	}{
		"AWS's caching client": {Example_cachingBefore, 1, 2},
		"cache":                {Example_cachingAfter, 1, 1},
	} {
		bed.SM.ResetCalls()
		output(t, example.run)
		if get, all := bed.SM.Count("GetSecretValue"), bed.SM.Count(""); get != example.get || all != example.all {
			t.Errorf("%s: %d of %d calls are GetSecretValue, want %d of %d", name, get, all, example.get, example.all)
		}
	}
}

// output returns what the example prints.
func output(t *testing.T, example func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	example()
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
