package smtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestFaultErrors(t *testing.T) {
	srv, c := newServer(t)
	arn := create(t, c, "s", "a", "one")
	for _, tt := range []struct {
		err  *smtest.Error
		want string
	}{
		{smtest.Throttling, "ThrottlingException: Rate exceeded"},
		{smtest.InternalServiceError, "InternalServiceError: An error occurred on the server side."},
		{smtest.AccessDeniedByKMS, "AccessDeniedException: Access to KMS is not allowed"},
		{smtest.AccessDenied, "AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app/i is not authorized to perform: " +
			"secretsmanager:GetSecretValue on resource: " + arn +
			" because no identity-based policy allows the secretsmanager:GetSecretValue action"},
		{smtest.AccessDeniedByResource, "AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app/i is not authorized to perform: " +
			"secretsmanager:GetSecretValue on resource: " + arn + " with an explicit deny in a resource-based policy"},
		{&smtest.Error{Code: "Own", Message: "text"}, "Own: text"},
	} {
		remove := srv.Inject(smtest.Fault{Err: tt.err})
		_, err := read(t.Context(), c, "s")
		wantError(t, err, tt.want)
		remove()
		remove()
	}
	wantValue(t, c, "s", "one")
}

// The SDK's own retries see the statuses and codes that it retries.
func TestFaultsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newServer(t)
		c := srv.Client()
		srv.Put("s", "one")
		for _, tt := range []struct {
			err   *smtest.Error
			calls int
			fails bool
		}{
			{smtest.Throttling, 3, false},
			{smtest.InternalServiceError, 3, false},
			{smtest.AccessDenied, 1, true},
		} {
			srv.ResetCalls()
			remove := srv.Inject(smtest.Fault{Times: 2, Err: tt.err})
			_, err := read(t.Context(), c, "s")
			if n := srv.Count("GetSecretValue"); n != tt.calls || (err != nil) != tt.fails {
				t.Errorf("%s: %d calls, %v, want %d", tt.err.Code, n, err, tt.calls)
			}
			remove()
		}
	})
}

func TestFaultMatches(t *testing.T) {
	srv, c := newServer(t)
	arn := create(t, c, "prod/db", "a", "one")
	if err := put(t.Context(), c, "prod/db", "b", "two", pend); err != nil {
		t.Fatal(err)
	}
	srv.Put("other", "x")
	get := func(id, version, stage string) error {
		in := &sm.GetSecretValueInput{SecretId: aws.String(id)}
		if version != "" {
			in.VersionId = aws.String(ver(version))
		}
		if stage != "" {
			in.VersionStage = aws.String(stage)
		}
		_, err := c.GetSecretValue(t.Context(), in)
		return err
	}
	describe := func(id string) error {
		_, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(id)})
		return err
	}
	batch := func(ids ...string) error {
		_, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: ids})
		return err
	}
	for name, tt := range map[string]struct {
		fault smtest.Fault
		call  func() error
		want  bool
	}{
		"all":                 {smtest.Fault{}, func() error { return describe("other") }, true},
		"operation":           {smtest.Fault{Operation: "GetSecretValue"}, func() error { return get("prod/db", "", "") }, true},
		"other operation":     {smtest.Fault{Operation: "GetSecretValue"}, func() error { return describe("prod/db") }, false},
		"name":                {smtest.Fault{SecretID: "prod/db"}, func() error { return describe("prod/db") }, true},
		"name by ARN":         {smtest.Fault{SecretID: arn}, func() error { return describe("prod/db") }, true},
		"ARN by name":         {smtest.Fault{SecretID: "prod/db"}, func() error { return describe(arn) }, true},
		"ARN by partial ARN":  {smtest.Fault{SecretID: arn[:len(arn)-7]}, func() error { return describe(arn) }, true},
		"other secret":        {smtest.Fault{SecretID: "prod/db"}, func() error { return describe("other") }, false},
		"stage":               {smtest.Fault{Stage: pend}, func() error { return get("prod/db", "", pend) }, true},
		"stage and version":   {smtest.Fault{Stage: pend}, func() error { return get("prod/db", "b", pend) }, true},
		"version alone":       {smtest.Fault{Stage: pend}, func() error { return get("prod/db", "b", "") }, false},
		"current unsaid":      {smtest.Fault{Stage: cur}, func() error { return get("prod/db", "", "") }, true},
		"other stage":         {smtest.Fault{Stage: pend}, func() error { return get("prod/db", "", "") }, false},
		"no stage":            {smtest.Fault{Stage: cur}, func() error { return describe("prod/db") }, false},
		"put":                 {smtest.Fault{Stage: pend}, func() error { return put(t.Context(), c, "prod/db", "b", "two", "x", pend) }, true},
		"move":                {smtest.Fault{Stage: cur}, func() error { return move(t.Context(), c, "prod/db", cur, "a", "a") }, true},
		"batch":               {smtest.Fault{SecretID: "prod/db"}, func() error { return batch("other", "prod/db") }, true},
		"batch without it":    {smtest.Fault{SecretID: "prod/db"}, func() error { return batch("other") }, false},
		"secret that is not":  {smtest.Fault{SecretID: "none"}, func() error { _, err := read(t.Context(), c, "none"); return err }, true},
		"not the one that is": {smtest.Fault{SecretID: "none"}, func() error { return describe("prod/db") }, false},
		"create": {smtest.Fault{SecretID: "new"}, func() error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new")})
			return err
		}, true},
		"no secret to match":    {smtest.Fault{SecretID: "prod/db"}, func() error { _, err := c.GetRandomPassword(t.Context(), nil); return err }, false},
		"all match, none to do": {smtest.Fault{Operation: "GetSecretValue", SecretID: arn, Stage: cur}, func() error { return get("prod/db", "", cur) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			tt.fault.Err = &smtest.Error{Code: "Matched"}
			defer srv.Inject(tt.fault)()
			err := tt.call()
			if got := err != nil && apiError(err) == "Matched: UnknownError"; got != tt.want {
				t.Errorf("matched %v (%v), want %v", got, err, tt.want)
			}
		})
	}
}

func TestFaultOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("s", "one")
		var got []string
		note := func(name string) func(context.Context, smtest.Call) {
			return func(_ context.Context, call smtest.Call) { got = append(got, name+call.Code) }
		}
		srv.Inject(smtest.Fault{Times: 1, Delay: time.Second, DelayAnswer: 2 * time.Second, Before: note("b1"), After: note("a1")})
		srv.Inject(smtest.Fault{Times: 1, Delay: 4 * time.Second, Before: note("b2"), After: note("a2"), Err: smtest.Throttling})
		srv.Inject(smtest.Fault{Times: 1, Before: note("b3"), Err: smtest.InternalServiceError})
		start := time.Now()
		_, err := read(t.Context(), c, "s")
		wantError(t, err, "ThrottlingException: Rate exceeded")
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("the call took %v, want 7s", d)
		}
		_, err = read(t.Context(), c, "s")
		wantError(t, err, "InternalServiceError: An error occurred on the server side.")
		wantValue(t, c, "s", "one")
		want := "[b1 b2 a1ThrottlingException a2ThrottlingException b3]"
		if g := sprint(got); g != want {
			t.Errorf("hooks ran %s, want %s", g, want)
		}
	})
}

// What a reader gets is decided at one instant; the label moves while the answer
// is on its way.
func TestStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("s", "one")
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Times: 1, DelayAnswer: time.Minute})
		start := time.Now()
		result := make(chan string)
		go func() {
			v, _ := read(t.Context(), c, "s")
			result <- v
		}()
		synctest.Wait()
		if _, err := srv.Rotate(t.Context(), "s", "two"); err != nil {
			t.Fatal(err)
		}
		wantValue(t, c, "s", "two") // Not held up: the fault is used up, and no lock is held.
		if v := <-result; v != "one" || time.Since(start) != time.Minute {
			t.Errorf("the delayed answer is %q after %v", v, time.Since(start))
		}

		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Times: 1, Delay: time.Minute})
		go func() {
			v, _ := read(t.Context(), c, "s")
			result <- v
		}()
		synctest.Wait()
		srv.Put("s", "three")
		if v := <-result; v != "three" {
			t.Errorf("the delayed read is %q, want what is there after the delay", v)
		}
	})
}

// A hook may stop a call until the test lets it go on, and may call the server.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		first := srv.Put("s", "one")
		var second string
		hold := make(chan struct{})
		srv.Inject(smtest.Fault{
			Operation: "GetSecretValue", Times: 1,
			Before: func(_ context.Context, call smtest.Call) {
				if call.SecretID != "s" || call.Stage != cur || call.VersionID != "" || !call.Answered.IsZero() {
					t.Errorf("Before got %+v", call)
				}
				<-hold
			},
			After: func(_ context.Context, call smtest.Call) {
				if call.VersionID != first {
					t.Errorf("After got %+v", call)
				}
				second = srv.Put("s", "two")
			},
		})
		result := make(chan string)
		go func() {
			v, _ := read(t.Context(), c, "s")
			result <- v
		}()
		synctest.Wait()
		if n := srv.Count("GetSecretValue"); n != 1 {
			t.Errorf("%d calls while one is held", n)
		}
		close(hold)
		if v := <-result; v != "one" {
			t.Errorf("read %q, want what was there before After", v)
		}
		out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
		if err != nil || *out.VersionId != second {
			t.Errorf("read %v, %v, want the version that After put", out, err)
		}
	})
}

func TestRequestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		for name, tt := range map[string]struct {
			fault smtest.Fault
			want  string // the versions after a put that gave up
		}{
			"before the effect": {smtest.Fault{Times: 1, Delay: time.Hour}, "a:AWSCURRENT"},
			"after the effect":  {smtest.Fault{Times: 1, DelayAnswer: time.Hour}, "a:AWSPREVIOUS b:AWSCURRENT"},
		} {
			srv.Inject(tt.fault)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			err := put(ctx, c, "s", "b", "two")
			cancel()
			if d := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || d != time.Second {
				t.Errorf("%s: %v after %v", name, err, d)
			}
			calls := srv.Calls()
			if last := calls[len(calls)-1]; !last.Answered.IsZero() {
				t.Errorf("%s: the call counts as answered: %+v", name, last)
			}
			if got := versions(t, c, "s"); got != tt.want {
				t.Errorf("%s: versions = %q, want %q", name, got, tt.want)
			}
			// Start the next row where this one started.
			_ = put(t.Context(), c, "s", "b", "two")
			srv, c = newServer(t)
			create(t, c, "s", "a", "one")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		srv.ResetCalls()
		if _, err := read(ctx, c, "s"); !errors.Is(err, context.Canceled) {
			t.Errorf("a call with a cancelled context: %v", err)
		}
		if n := srv.Count(""); n != 0 {
			t.Errorf("%d calls reached the server", n)
		}
	})
}

// A misspelt operation would make a test wait, or count, in vain.
func TestMisspeltOperation(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	for name, call := range map[string]func(){
		"Inject": func() { srv.Inject(smtest.Fault{Operation: "GetSecretVale"}) },
		"Count":  func() { srv.Count("GetSecretVale") },
	} {
		func() {
			defer func() {
				if got, ok := recover().(string); !ok || !strings.Contains(got, `no operation "GetSecretVale"`) {
					t.Errorf("%s: %v", name, got)
				}
			}()
			call()
		}()
	}
	srv.Put("a", "b") // the server goes on
}
