package smtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestKeepValue(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	srv.AddFunction("*", srv.KeepValue())
	srv.ResetCalls()
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if n := srv.Count(""); n != 1 {
		t.Errorf("%d calls, want RotateSecret alone", n)
	}
	wantValue(t, c, "s", "one")
	if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
	if err := rotate(t, c, "x", later); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Error(err)
	}

	// A binary value stays binary.
	if _, err := c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("s"), SecretBinary: []byte{0, 255}}); err != nil {
		t.Fatal(err)
	}
	if err := rotate(t, c, "c"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || string(out.SecretBinary) != "\x00\xff" || *out.VersionId != ver("c") {
		t.Errorf("GetSecretValue = %+v, %v", out, err)
	}

	// Its own function comes before the one for all.
	r := newRotator(srv)
	if err := rotate(t, c, "d"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil || r.count("createSecret") != 1 {
		t.Errorf("Wait = %v, steps %s", err, r.steps())
	}

	if _, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("empty")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
		SecretId: aws.String("empty"), RotationLambdaARN: aws.String(functionARN + "-other"),
	}); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "empty"); err == nil || err.Error() != "createSecret: the secret has no value yet" {
		t.Errorf("Wait = %v", err)
	}
}

// A function must be one of Lambda, and in the secret's Region.
func TestFunctionARN(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	srv.AddFunction("*", srv.KeepValue())
	const want = "InvalidParameterException: Invalid rotation Lambda ARN. Ensure the ARN matches format arn:aws:lambda:us-east-1:<account>:function:<functionName>."
	for arn, ok := range map[string]bool{
		functionARN:              true,
		functionARN + ":live":    true,
		functionARN + ":$LATEST": true,
		"rotate":                 false,
		"arn:aws:lambda:eu-west-1:123456789012:function:rotate": false,
		"arn:aws:lambda:us-east-1:1234:function:rotate":         false,
		"arn:aws:sqs:us-east-1:123456789012:rotate":             false,
	} {
		err := rotate(t, c, "x", later, func(in *sm.RotateSecretInput) { in.RotationLambdaARN = aws.String(arn) })
		if ok && err != nil || !ok && apiError(err) != want {
			t.Errorf("RotateSecret with %s: %v", arn, err)
		}
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Error(err)
		}
	}
}

// A function of another account gets a token that says for whom it acts.
func TestRotationToken(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	var tokens []string
	srv.AddFunction("*", smtest.Lambda(func(_ context.Context, e struct{ RotationToken string }) error {
		tokens = append(tokens, e.RotationToken)
		return nil
	}))
	if err := rotate(t, c, "b", func(in *sm.RotateSecretInput) {
		in.RotationLambdaARN = aws.String("arn:aws:lambda:us-east-1:210987654321:function:rotate")
	}); err != nil {
		t.Fatal(err)
	}
	_ = srv.Wait(t.Context(), "s") // The function does not move AWSCURRENT.
	if len(tokens) != 4 || len(tokens[0]) != 36 || tokens[0] != tokens[3] {
		t.Errorf("tokens = %q, want one, four times", tokens)
	}
}

// What is said of a managed external secret is kept.
func TestRotateSecretExternal(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	srv.AddFunction("*", srv.KeepValue())
	role := "arn:aws:iam::123456789012:role/rotate"
	if err := rotate(t, c, "b", later, func(in *sm.RotateSecretInput) {
		in.ExternalSecretRotationRoleArn = aws.String(role)
	}); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, c, "s").ExternalSecretRotationRoleArn; got == nil || *got != role {
		t.Errorf("ExternalSecretRotationRoleArn = %v", got)
	}
	wantError(t, rotate(t, c, "c", func(in *sm.RotateSecretInput) { in.ExternalSecretRotationRoleArn = aws.String("short") }),
		"ValidationException: 1 validation error detected: Value at 'externalSecretRotationRoleArn' failed to satisfy constraint: Member must have length greater than or equal to 20")
}

// An HTTP function gets Lambda's event.
func TestHTTPFunction(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var e event
		if err := json.NewDecoder(req.Body).Decode(&e); err != nil || req.Method != http.MethodPost ||
			req.Header.Get("Content-Type") != "application/json" || req.URL.Path != "/invoke" {
			t.Errorf("%s %s: %v, %v", req.Method, req.URL, req.Header, err)
		}
		if err := r.handle(req.Context(), e); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "null")
	}))
	defer web.Close()
	srv.AddFunction(functionARN, smtest.HTTPFunction(web.URL+"/invoke", time.Minute))
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil || r.steps() != allFour {
		t.Errorf("Wait = %v, steps %s", err, r.steps())
	}
	wantValue(t, c, "s", "made by createSecret")
}

// The answers of an HTTP function are Lambda's.
func TestHTTPFunctionAnswers(t *testing.T) {
	text := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"nothing":    {text(""), ""},
		"null":       {text("null"), ""},
		"a value":    {text(`"errorMessage"`), ""},
		"an object":  {text(`{"errorType": "x"}`), ""},
		"no content": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, ""},
		"status": {
			func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret-value", http.StatusBadGateway) },
			"smtest: rotation function: status 502",
		},
		"redirect": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(http.StatusFound)
			},
			"smtest: rotation function: status 302",
		},
		"error of Lambda": {
			text(`{"errorMessage": "no\nroute", "errorType": "ValueError", "stackTrace": ["secret-value"]}`),
			`smtest: rotation function: "ValueError: no\nroute"`,
		},
		"error without a type": {text(`{"errorMessage": ""}`), `smtest: rotation function: ""`},
		"header of Lambda": {
			func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Amz-Function-Error", "Unhandled") },
			"smtest: rotation function: status 200",
		},
		"lost": {
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			`smtest: rotation function: Post "URL": EOF`,
		},
		"cut off": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "10")
				_, _ = io.WriteString(w, "nul")
			},
			"smtest: rotation function: unexpected EOF",
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(tt.answer)
			defer web.Close()
			got := ""
			if err := smtest.HTTPFunction(web.URL, 0)(t.Context(), []byte(`{}`)); err != nil {
				got = strings.ReplaceAll(err.Error(), web.URL, "URL")
			}
			if got != tt.want {
				t.Errorf("error\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestHTTPFunctionTimeout(t *testing.T) {
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer web.Close()
	defer close(release)
	if err := smtest.HTTPFunction(web.URL, time.Millisecond)(t.Context(), []byte("{}")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want its deadline exceeded", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := smtest.HTTPFunction(web.URL, 0)(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want its context's", err)
	}
	if err := smtest.HTTPFunction(":", 0)(t.Context(), nil); err == nil {
		t.Error("no error for a URL that is none")
	}
}

func TestManaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		const name = "rds!db-1"
		var set []string
		var fail error
		first := srv.PutManaged(name, "one", smtest.Manager{
			Service:  "rds",
			NewValue: func(_ context.Context, old string) (string, error) { return old + "+", nil },
			SetValue: func(ctx context.Context, value string) error {
				out, err := c.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: aws.String(name), VersionStage: aws.String(pend)})
				if err != nil || *out.SecretString != value {
					t.Errorf("AWSPENDING = %v, %v while %q is set", out, err, value)
				}
				wantValue(t, c, name, strings.TrimSuffix(value, "+"))
				set = append(set, value)
				return fail
			},
		})
		d := describe(t, c, name)
		if *d.OwningService != "rds" || !*d.RotationEnabled || d.RotationLambdaARN != nil ||
			*d.RotationRules.AutomaticallyAfterDays != 7 || !d.NextRotationDate.Equal(utc(t, "2000-01-08 23:59:59")) {
			t.Errorf("DescribeSecret = %+v", d)
		}
		if err := put(t.Context(), c, name, "b", "mine"); err == nil {
			t.Error("PutSecretValue to a managed secret: no error")
		}
		rotate := func(opts ...func(*sm.RotateSecretInput)) error {
			in := &sm.RotateSecretInput{SecretId: aws.String(name)}
			for _, opt := range opts {
				opt(in)
			}
			_, err := c.RotateSecret(t.Context(), in)
			return err
		}
		if err := rotate(func(in *sm.RotateSecretInput) { in.RotationLambdaARN = aws.String(functionARN) }); err == nil {
			t.Error("RotateSecret with a function: no error")
		}
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantValue(t, c, name, "one+")
		if got := versions(t, c, name); !strings.Contains(got, first+":AWSPREVIOUS") || strings.Contains(got, pend) {
			t.Errorf("versions = %s", got)
		}
		sleepUntil(t, srv, "2000-01-09")
		wantValue(t, c, name, "one++")

		// Its schedule can be changed, and its rotations fail and are tried again.
		if err := rotate(later, every("rate(4 hours)")); err != nil {
			t.Fatal(err)
		}
		fail = errors.New("the instance is not available")
		sleepUntil(t, srv, "2000-01-09 04:00")
		fail = nil
		wantValue(t, c, name, "one++")
		sleepUntil(t, srv, "2000-01-09 04:05")
		wantValue(t, c, name, "one+++")
		if got := strings.Join(set, " "); got != "one+ one++ one+++ one+++" {
			t.Errorf("set %s", got)
		}
	})
}

// The name need not say whose secret it is, and nobody need ask for its rotation.
func TestManagedBySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.PutManaged("admin", "one", smtest.Manager{
			Service: "redshift", NewValue: func(_ context.Context, old string) (string, error) { return old + "+", nil },
		})
		if got := aws.ToString(describe(t, c, "admin").OwningService); got != "redshift" {
			t.Errorf("OwningService = %q", got)
		}
		sleepUntil(t, srv, "2000-01-15")
		wantValue(t, c, "admin", "one++")
	})
}

func TestManagedErrors(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("s", "one")
	next := func(value string, err error) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return value, err }
	}
	for _, tt := range []struct {
		name, value string
		m           smtest.Manager
		want        string
	}{
		{"new", "x", smtest.Manager{Service: "rds"}, `smtest: put "new": a Manager needs Service and NewValue`},
		{"new", "x", smtest.Manager{NewValue: next("", nil)}, `smtest: put "new": a Manager needs Service and NewValue`},
		{"s", "x", smtest.Manager{Service: "rds", NewValue: next("", nil)}, `smtest: put "s": the secret exists already`},
		{"new", "", smtest.Manager{Service: "rds", NewValue: next("", nil)}, `smtest: put "new": InvalidRequestException: You must provide either SecretString or SecretBinary.`},
	} {
		if got := panics(func() { srv.PutManaged(tt.name, tt.value, tt.m) }); got != tt.want {
			t.Errorf("PutManaged panics with %v, want %s", got, tt.want)
		}
	}
	for name, tt := range map[string]struct {
		next func(context.Context, string) (string, error)
		want string
	}{
		"rds!empty":  {next("", nil), "createSecret: InvalidRequestException: You must provide either SecretString or SecretBinary."},
		"rds!failed": {next("", errors.New("no")), "createSecret: no"},
	} {
		srv.PutManaged(name, "x", smtest.Manager{Service: "rds", NewValue: tt.next})
		if _, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), name); err == nil || err.Error() != tt.want {
			t.Errorf("Wait = %v, want %s", err, tt.want)
		}
	}
}
