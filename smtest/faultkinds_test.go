package smtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// outcomes reads the secret n times, and writes + for each success, - for each
// failure.
func outcomes(t *testing.T, c *sm.Client, n int) string {
	t.Helper()
	var out strings.Builder
	for range n {
		if _, err := read(t.Context(), c, "s"); err != nil {
			out.WriteByte('-')
		} else {
			out.WriteByte('+')
		}
	}
	return out.String()
}

func TestFaultSkip(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("s", "one")
	srv.Inject(smtest.Fault{Operation: "GetSecretValue", Skip: 2, Times: 1, Err: smtest.AccessDenied})
	describe(t, c, "s") // It does not match: it is not one of the two.
	if got, want := outcomes(t, c, 5), "++-++"; got != want {
		t.Errorf("reads = %s, want %s", got, want)
	}
}

// The same seed draws the same calls, and each fault draws for itself.
func TestFaultProbability(t *testing.T) {
	run := func(seed uint64, other bool) string {
		srv := smtest.New(&smtest.Options{Seed: seed})
		defer srv.Close()
		srv.Put("s", "one")
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Probability: 0.3, Err: smtest.AccessDenied})
		if other {
			srv.Inject(smtest.Fault{Operation: "GetSecretValue", Probability: 0.5, Delay: time.Nanosecond})
		}
		return outcomes(t, client(srv), 200)
	}
	first := run(1, false)
	if n := strings.Count(first, "-"); n < 40 || n > 80 {
		t.Errorf("%d of 200 calls failed, want about 60", n)
	}
	if again := run(1, true); again != first {
		t.Errorf("the same seed gives\n%s, then\n%s", first, again)
	}
	if other := run(2, false); other == first {
		t.Errorf("two seeds give the same: %s", first)
	}
	srv, c := newServer(t)
	srv.Put("s", "one")
	srv.Inject(smtest.Fault{Probability: 1, Times: 3, Err: smtest.AccessDenied})
	if got, want := outcomes(t, c, 5), "---++"; got != want {
		t.Errorf("reads = %s, want %s", got, want)
	}
}

func TestFaultRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("s", "one")
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Rate: 3, Err: smtest.Throttling})
		for _, tt := range []struct {
			after time.Duration
			want  string
		}{
			{0, "+++---"},
			{time.Second / 3, "+-----"},
			{time.Second, "+++---"},
			{time.Hour, "+++---"}, // It is not saved up.
			{time.Second / 6, "------"},
			{time.Second / 6, "+-----"},
		} {
			time.Sleep(tt.after + time.Microsecond)
			if got := outcomes(t, c, 6); got != tt.want {
				t.Errorf("after %v reads = %s, want %s", tt.after, got, tt.want)
			}
		}
		// Another account has its own.
		other := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::210987654321:user/app"})
		_, err := read(t.Context(), srv.Client(other), "s")
		wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret.")
	})
}

func TestFaultCallerAndRegion(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("s", "one")
	app := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::123456789012:user/app", AccessKeyID: "AKIAAPPAPPAPPAPP"})
	asApp := srv.Client(app, func(o *sm.Options) { o.RetryMaxAttempts = 1 })
	inParis := srv.Client(func(o *sm.Options) { o.Region, o.RetryMaxAttempts = "eu-west-3", 1 })
	for name, tt := range map[string]struct {
		fault            smtest.Fault
		app, others, far bool
	}{
		"caller":         {smtest.Fault{Caller: "arn:aws:iam::123456789012:user/app"}, true, false, false},
		"access key":     {smtest.Fault{Caller: "AKIAAPPAPPAPPAPP"}, true, false, false},
		"account":        {smtest.Fault{Caller: "123456789012"}, true, true, true},
		"other account":  {smtest.Fault{Caller: "210987654321"}, false, false, false},
		"Region":         {smtest.Fault{Region: "eu-west-3"}, false, false, true},
		"not the Region": {smtest.Fault{Region: "us-east-1"}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			tt.fault.Err = &smtest.Error{Code: "Matched"}
			defer srv.Inject(tt.fault)()
			for _, who := range []struct {
				c    *sm.Client
				want bool
			}{{asApp, tt.app}, {c, tt.others}, {inParis, tt.far}} {
				_, err := read(t.Context(), who.c, "s")
				if got := strings.HasPrefix(apiError(err), "Matched"); got != who.want {
					t.Errorf("matched %v, want %v: %v", got, who.want, err)
				}
			}
		})
	}
}

// What is lost on the way there has had no effect, what is lost on the way back
// has. The SDK retries both, and cannot know which it was.
func TestFaultLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newServer(t)
		c := srv.Client() // with the SDK's retries
		create(t, c, "s", "a", "one")
		for _, tt := range []struct {
			fault   smtest.Fault
			version string
			want    string // after the first attempt
		}{
			{smtest.Fault{Times: 1, LoseRequest: true}, "b", "a:AWSCURRENT"},
			{smtest.Fault{Times: 1, LoseAnswer: true}, "c", "a: b:AWSPREVIOUS c:AWSCURRENT"},
		} {
			srv.ResetCalls()
			tt.fault.Operation = "PutSecretValue"
			srv.Inject(tt.fault)
			seen := ""
			srv.Inject(smtest.Fault{Operation: "PutSecretValue", Skip: 1, Times: 1, Before: func(context.Context, smtest.Call) {
				seen = versions(t, client(srv), "s")
			}})
			if tt.fault.LoseRequest {
				srv.Inject(smtest.Fault{Operation: "PutSecretValue", Times: 1, Before: func(context.Context, smtest.Call) {
					seen = versions(t, client(srv), "s")
				}})
			}
			if err := put(t.Context(), c, "s", tt.version, "value of "+tt.version); err != nil {
				t.Fatal(err)
			}
			if seen != tt.want {
				t.Errorf("%+v: at the second attempt versions = %q, want %q", tt.fault, seen, tt.want)
			}
			calls := srv.CallsLike(smtest.Call{Operation: "PutSecretValue"})
			if len(calls) != 2 || !calls[0].Answered.IsZero() || calls[1].Answered.IsZero() || calls[1].Attempt != 2 {
				t.Errorf("%+v: calls = %+v", tt.fault, calls)
			}
		}
		if got, want := versions(t, c, "s"), "a: b:AWSPREVIOUS c:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
	})
}

// Over a socket the client sees the end of the connection.
func TestFaultLostSocket(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	web := httptest.NewServer(srv)
	defer web.Close()
	c := sm.New(sm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(web.URL), Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		HTTPClient: web.Client(),
	})
	for _, f := range []smtest.Fault{{LoseRequest: true}, {LoseAnswer: true}} {
		remove := srv.Inject(f)
		if _, err := read(t.Context(), c, "s"); !errors.Is(err, io.EOF) {
			t.Errorf("%+v: %v, want EOF", f, err)
		}
		remove()
	}
}

// A call that hangs for ever is one that its caller gives up.
func TestFaultForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		for _, tt := range []struct {
			fault smtest.Fault
			want  string
		}{
			{smtest.Fault{Times: 1, Delay: smtest.Forever}, "a:AWSCURRENT"},
			{smtest.Fault{Times: 1, DelayAnswer: smtest.Forever}, "a:AWSPREVIOUS b:AWSCURRENT"},
		} {
			srv.Inject(tt.fault)
			ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
			if err := put(ctx, c, "s", "b", "two"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("put = %v, want its deadline exceeded", err)
			}
			cancel()
			if got := versions(t, c, "s"); got != tt.want {
				t.Errorf("versions = %q, want %q", got, tt.want)
			}
		}
	})
}

// Each kind of error is retried by the SDK as it is in production.
func TestFaultErrorsAndRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newServer(t)
		c := srv.Client()
		srv.Put("s", "one")
		for _, tt := range []struct {
			err      *smtest.Error
			attempts int
			want     string
		}{
			{smtest.ExpiredToken, 1, "ExpiredTokenException: The security token included in the request is expired"},
			{smtest.UnrecognizedClient, 1, "UnrecognizedClientException: The security token included in the request is invalid."},
			{smtest.DecryptionFailure, 1, "DecryptionFailure: Secrets Manager can't decrypt the protected secret text using the provided KMS key."},
			{smtest.EncryptionFailure, 1, "EncryptionFailure: Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is available, enabled, and not in an invalid state."},
			{smtest.BadGateway, 3, "StatusCode: 502"},
			{smtest.ServiceUnavailable, 3, "StatusCode: 503"},
			{smtest.GatewayTimeout, 3, "StatusCode: 504"},
		} {
			srv.ResetCalls()
			remove := srv.Inject(smtest.Fault{Err: tt.err})
			_, err := read(t.Context(), c, "s")
			remove()
			if n := srv.Count("GetSecretValue"); n != tt.attempts || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %d attempts, %v, want %d", tt.err.Code, n, err, tt.attempts)
			}
			if got := srv.Calls()[0].Code; got != tt.err.Code {
				t.Errorf("the log has code %s, want %s", got, tt.err.Code)
			}
		}
		w := httptest.NewRecorder()
		srv.Inject(smtest.Fault{Err: smtest.ServiceUnavailable})
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"SecretId":"s"}`))
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
		srv.ServeHTTP(w, r)
		if w.Code != 503 || w.Header().Get("Content-Type") != "text/html" || !strings.Contains(w.Body.String(), "<h1>Service Unavailable</h1>") {
			t.Errorf("answer %d %v %s", w.Code, w.Header(), w.Body)
		}
	})
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	srv, _ := newServer(t)
	for want, f := range map[string]smtest.Fault{
		"smtest: a Fault's Probability is from 0 to 1":                    {Probability: 1.5},
		"smtest: a Fault's Rate is not negative":                          {Rate: -1},
		"smtest: PutSecretValue is no read: it cannot be stale":           {Operation: "PutSecretValue", Stale: time.Second},
		"smtest: there is no operation \"GetSecretValues\"":               {Operation: "GetSecretValues"},
		"smtest: UpdateSecretVersionStage is no read: it cannot be stale": {Operation: "UpdateSecretVersionStage", Stale: 1},
	} {
		if got := panics(func() { srv.Inject(f) }); got != want {
			t.Errorf("Inject(%+v) panics with %v, want %s", f, got, want)
		}
	}
}

func TestServiceQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(&smtest.Options{ServiceQuotas: true})
		defer srv.Close()
		c := client(srv)
		srv.Put("s", "one")
		fill := func(call func() error) (n int) {
			for {
				if err := call(); err != nil {
					wantError(t, err, "ThrottlingException: Rate exceeded")
					return n
				}
				n++
			}
		}
		tag := func() error {
			_, err := c.TagResource(t.Context(), &sm.TagResourceInput{
				SecretId: aws.String("s"), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
			})
			return err
		}
		untag := func() error {
			_, err := c.UntagResource(t.Context(), &sm.UntagResourceInput{SecretId: aws.String("s"), TagKeys: []string{"x"}})
			return err
		}
		if n := fill(tag); n != 50 {
			t.Errorf("%d TagResource passed at once, want 50", n)
		}
		if err := untag(); err == nil {
			t.Error("UntagResource has a quota of its own")
		}
		wantValue(t, c, "s", "one")
		time.Sleep(100 * time.Millisecond)
		if n := fill(untag); n != 5 {
			t.Errorf("%d passed a tenth of a second later, want 5", n)
		}
		list := func() error {
			_, err := c.ListSecrets(t.Context(), nil)
			return err
		}
		if n := fill(list); n != 100 {
			t.Errorf("%d ListSecrets passed at once, want 100", n)
		}
		elsewhere := srv.Client(func(o *sm.Options) { o.Region = "eu-west-1" })
		if _, err := elsewhere.ListSecrets(t.Context(), nil); err != nil {
			t.Errorf("another Region: %v", err)
		}
		if n := len(srv.CallsLike(smtest.Call{Operation: "ListSecrets", Code: "ThrottlingException"})); n != 1 {
			t.Errorf("the log has %d throttled ListSecrets, want 1", n)
		}
	})
}

// Every operation has a quota.
func TestServiceQuotasAreComplete(t *testing.T) {
	if missing := smtest.WithoutQuota(); len(missing) > 0 {
		t.Errorf("no quota for %v", missing)
	}
}

func ExampleFault() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "one")

	// Two calls are throttled, every second answer to a write is lost, reads lag ten
	// seconds behind, and one caller has lost its permission.
	srv.Inject(smtest.Fault{Operation: "GetSecretValue", Times: 2, Err: smtest.Throttling})
	srv.Inject(smtest.Fault{Operation: "PutSecretValue", Probability: 0.5, LoseAnswer: true})
	srv.Inject(smtest.Fault{SecretID: "prod/db", Stale: 10 * time.Second})
	srv.Inject(smtest.Fault{Caller: "arn:aws:iam::123456789012:user/app", Err: smtest.AccessDenied})

	_, err := srv.Client(func(o *sm.Options) { o.RetryMaxAttempts = 1 }).GetSecretValue(
		context.Background(), &sm.GetSecretValueInput{SecretId: aws.String("prod/db")})
	fmt.Println(strings.HasSuffix(err.Error(), "ThrottlingException: Rate exceeded"))

	// Output: true
}
