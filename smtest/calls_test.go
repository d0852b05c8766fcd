package smtest_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestCallsLike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		arn := create(t, c, "s", "a", "one")
		create(t, c, "other", "a", "one")
		if err := put(t.Context(), c, "s", "b", "two", "x", pend); err != nil {
			t.Fatal(err)
		}
		srv.ResetCalls()
		app := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::123456789012:user/app", AccessKeyID: "AKIAAPPAPPAPPAPP"})
		asApp := srv.Client(app)

		srv.Inject(smtest.Fault{Operation: "GetSecretValue", SecretID: "s", Times: 2, Err: smtest.Throttling})
		wantValue(t, asApp, arn, "one") // 3 attempts
		wantValue(t, c, "s", "one")
		wantValue(t, c, "other", "one")
		if _, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionStage: aws.String(pend)}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"other", arn}}); err != nil {
			t.Fatal(err)
		}
		if err := put(t.Context(), c, "s", "c", "three", "x", "y"); err != nil {
			t.Fatal(err)
		}
		far := srv.Client(func(o *sm.Options) { o.Region = "eu-west-1" })
		_, _ = read(t.Context(), far, "s")

		for _, tt := range []struct {
			like smtest.Call
			want int
		}{
			{smtest.Call{}, 9},
			{smtest.Call{Operation: "GetSecretValue"}, 7},
			{smtest.Call{Operation: "DeleteSecret"}, 0},
			{smtest.Call{SecretID: "s"}, 8}, // also that of another Region, where s is a name too
			{smtest.Call{SecretID: arn}, 7},
			{smtest.Call{SecretID: arn[:len(arn)-7]}, 7},
			{smtest.Call{SecretID: "other"}, 2},
			{smtest.Call{Stage: cur, Operation: "GetSecretValue"}, 6},
			{smtest.Call{Stage: pend}, 1},
			{smtest.Call{Stage: "y"}, 1},
			{smtest.Call{Code: "ThrottlingException"}, 2},
			{smtest.Call{Code: "ResourceNotFoundException", Region: "eu-west-1"}, 1},
			{smtest.Call{Region: "us-east-1"}, 8},
			{smtest.Call{Caller: "arn:aws:iam::123456789012:user/app"}, 3},
			{smtest.Call{Caller: "AKIAAPPAPPAPPAPP", Attempt: 1}, 1},
			{smtest.Call{Caller: "123456789012"}, 9},
			{smtest.Call{Caller: "210987654321"}, 0},
			{smtest.Call{Attempt: 3}, 1},
			{smtest.Call{VersionID: ver("b")}, 1},
			{smtest.Call{VersionID: ver("c"), Operation: "PutSecretValue"}, 1},
		} {
			if got := srv.CallsLike(tt.like); len(got) != tt.want {
				t.Errorf("%d calls like %+v, want %d: %+v", len(got), tt.like, tt.want, got)
			}
		}
		var attempts strings.Builder
		for _, c := range srv.CallsLike(smtest.Call{Caller: "AKIAAPPAPPAPPAPP"}) {
			attempts.WriteString(string(rune('0'+c.Attempt)) + c.Code + " ")
			if c.Caller != "arn:aws:iam::123456789012:user/app" || c.Region != "us-east-1" {
				t.Errorf("call %+v", c)
			}
		}
		if want := "1ThrottlingException 2ThrottlingException 3 "; attempts.String() != want {
			t.Errorf("attempts = %s, want %s", attempts.String(), want)
		}
		if got := panics(func() { srv.CallsLike(smtest.Call{Operation: "GetSecretVale"}) }); got == nil {
			t.Error("a misspelt operation: no panic")
		}
	})
}

// A hook sees who calls.
func TestCallInHook(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	var got smtest.Call
	srv.Inject(smtest.Fault{Before: func(_ context.Context, c smtest.Call) { got = c }})
	wantValue(t, srv.Client(), "s", "one")
	if got.Attempt != 1 || got.Region != "us-east-1" || !strings.HasSuffix(got.Caller, ":assumed-role/app/i") {
		t.Errorf("Call = %+v", got)
	}
}

// Nobody's header breaks the log.
func TestAttemptHeader(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	for header, want := range map[string]int{
		"":                   0,
		"attempt=2; max=3":   2,
		"max=3;attempt=7":    7,
		"attempt=x":          0,
		"attempt=-1":         0,
		"attempt=0":          0,
		"attempt":            0,
		";;attempt=3;":       3,
		"ttl=1; attempt = 2": 0,
	} {
		srv.ResetCalls()
		c := srv.Client(func(o *sm.Options) {
			inner := o.HTTPClient
			o.HTTPClient = rewrite{inner, header}
		})
		wantValue(t, c, "s", "one")
		if got := srv.Calls()[0].Attempt; got != want {
			t.Errorf("Amz-Sdk-Request: %q is attempt %d, want %d", header, got, want)
		}
	}
}
