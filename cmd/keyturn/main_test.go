package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	main "github.com/keyturn/keyturn/cmd/keyturn"
	"github.com/keyturn/keyturn/smtest"
)

// sentinel is in every password of these tests, and may be in no output.
const sentinel = "s3ntinel"

const caller = "arn:aws:iam::123456789012:user/oncall"

func value(password string) string {
	return `{"engine":"postgres","host":"db.example.com","port":5432,"username":"app","password":"` + sentinel + password + `","dbname":"orders"}`
}

// answerSTS is STS: it knows one caller.
func answerSTS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
		`<Arn>%s</Arn><UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, caller)
}

// inProcess calls a handler without a socket.
type inProcess func(http.ResponseWriter, *http.Request)

type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func (f inProcess) Do(req *http.Request) (*http.Response, error) {
	r := &recorder{header: make(http.Header), status: http.StatusOK}
	f(r, req)
	return &http.Response{StatusCode: r.status, Header: r.header, Body: io.NopCloser(&r.body), Request: req}, nil
}

func identity(f inProcess) main.IdentityAPI {
	return sts.New(sts.Options{
		Region: "us-east-1", HTTPClient: f, Retryer: aws.NopRetryer{}, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "x"}, nil
		}),
	})
}

// A doctor is the program, with a service of its own.
type doctor struct {
	*testing.T

	srv    *smtest.Server
	api    main.SecretsAPI
	region string
}

func newDoctor(t *testing.T, opts *smtest.Options) *doctor {
	t.Helper()
	srv := smtest.New(opts)
	t.Cleanup(srv.Close)
	return &doctor{T: t, srv: srv, api: srv.Client(func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 }), region: "us-east-1"}
}

// finding is one as -json prints it.
type finding struct{ Check, Status, Version, Server, Detail, Fix string }

// run runs the program and returns its exit status and what it printed, in which
// there must be no password.
func (d *doctor) run(args ...string) (status int, stdout, stderr string) {
	d.Helper()
	var out, errs bytes.Buffer
	status = main.Run(d.Context(), d.api, identity(answerSTS), d.region, args, &out, &errs)
	if strings.Contains(out.String()+errs.String(), sentinel) {
		d.Errorf("%q shows a password:\n%s%s", args, &out, &errs)
	}
	return status, out.String(), errs.String()
}

// check returns the findings of a check with -json.
func (d *doctor) check(wantStatus int, args ...string) []finding {
	d.Helper()
	status, out, errs := d.run(append([]string{"check", "-json"}, args...)...)
	var report struct{ Findings []finding }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		d.Fatalf("check %q: %v in %q; stderr %q", args, err, out, errs)
	}
	if status != wantStatus {
		d.Errorf("check %q = %d, want %d:\n%s", args, status, wantStatus, out)
	}
	return report.Findings
}

// want finds the finding with that check and status, whose detail and fix say all of
// the texts.
func (d *doctor) want(all []finding, check, status string, texts ...string) finding {
	d.Helper()
	i := slices.IndexFunc(all, func(f finding) bool {
		return f.Check == check && f.Status == status && !slices.ContainsFunc(texts, func(text string) bool {
			return !strings.Contains(f.Server+": "+f.Detail+"\n"+f.Fix, text)
		})
	})
	if i < 0 {
		d.Errorf("no %s of %s that says %q in:\n%+v", status, check, texts, all)
		return finding{}
	}
	return all[i]
}

// bubble runs f on fake time: it begins on 2000-01-01.
func bubble(t *testing.T, opts *smtest.Options, f func(*testing.T, *doctor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newDoctor(t, opts)) })
}

var suffix = regexp.MustCompile(`(:secret:prod/db-)[0-9A-Za-z]{6}`)

// steady replaces what is random: ids, by names in the order in which they were made.
func steady(text string, ids ...string) string {
	for i, id := range ids {
		text = strings.ReplaceAll(text, id, fmt.Sprintf("%08d-0000-4000-8000-000000000000", i+1))
	}
	return suffix.ReplaceAllString(text, "${1}a1B2c3")
}

func ids(t *testing.T, d *doctor) []string {
	t.Helper()
	out, err := d.srv.Client().ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: aws.String("prod/db"), IncludeDeprecated: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, v := range out.Versions { // the oldest first
		all = append(all, *v.VersionId)
	}
	return all
}

const function = "arn:aws:lambda:us-east-1:123456789012:function:rotate-db"

// stuckRotation leaves a rotation behind at setSecret, 20 minutes ago, after one that
// went well.
func stuckRotation(d *doctor) {
	d.Helper()
	d.srv.Put("prod/db", value("-one"))
	time.Sleep(30 * 24 * time.Hour)
	d.srv.Put("prod/db", value("-two"))
	time.Sleep(3 * 24 * time.Hour)
	client := d.srv.Client()
	d.srv.AddFunction(function, func(ctx context.Context, event []byte) error {
		var e struct{ Step, ClientRequestToken string }
		if err := json.Unmarshal(event, &e); err != nil || e.Step != "createSecret" {
			return fmt.Errorf("%s: no route to host", e.Step)
		}
		_, err := client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
			SecretId: aws.String("prod/db"), ClientRequestToken: &e.ClientRequestToken, SecretString: aws.String(value("-three")), VersionStages: []string{"AWSPENDING"},
		})
		return err
	})
	d.rotate()
	_ = d.srv.Wait(d.Context(), "prod/db")
	time.Sleep(20 * time.Minute)
}

func (d *doctor) rotate() {
	d.Helper()
	if _, err := d.srv.Client().RotateSecret(d.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String("prod/db"), RotationLambdaARN: aws.String(function), RotationRules: rules(),
	}); err != nil {
		d.Fatal(err)
	}
}

const asProgram = "KEYTURN_TEST_AS_PROGRAM"

// TestMain makes the test binary keyturn itself where a test starts it as that.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main.Main()
	}
	status := m.Run()
	stopServers()
	os.Exit(status)
}
