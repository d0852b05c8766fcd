package otel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/smtest"
)

var requestIDs = regexp.MustCompile(`aws\.request_id=[0-9a-f-]{36}`)

// line returns a span as a line.
func line(span sdktrace.ReadOnlySpan) string {
	s := fmt.Sprintf("%s %s {%s} %s%s", span.Name(), span.SpanKind(), text(span.Attributes()), span.Status().Code, span.Status().Description)
	return requestIDs.ReplaceAllString(s, "aws.request_id=ID")
}

func (tel *telemetry) lines() []string {
	var lines []string
	for _, span := range tel.spans.Ended() {
		lines = append(lines, line(span))
	}
	return lines
}

// Every span, with and without names.
func TestSpans(t *testing.T) {
	for _, test := range []struct {
		name string
		ids  bool
		want []string
	}{
		{"by default", false, []string{
			"Secrets Manager.BatchGetSecretValue client {aws.request_id=ID cloud.region=us-east-1 keyturn.batch.failed=1 keyturn.batch.size=2 keyturn.cache.forced=false rpc.method=BatchGetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID cloud.region=us-east-1 keyturn.cache.forced=true keyturn.secret.stage=AWSCURRENT rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID cloud.region=eu-west-1 error.type=ResourceNotFoundException keyturn.cache.forced=false keyturn.secret.stage=AWSPENDING rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Error",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID cloud.region=us-east-1 keyturn.cache.forced=false rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
		}},
		{"with names", true, []string{
			"Secrets Manager.BatchGetSecretValue client {aws.request_id=ID cloud.region=us-east-1 keyturn.batch.failed=1 keyturn.batch.size=2 keyturn.cache.forced=false rpc.method=BatchGetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID aws.secretsmanager.secret.arn=ARN cloud.region=us-east-1 keyturn.cache.forced=true keyturn.secret.id=prod/db keyturn.secret.stage=AWSCURRENT keyturn.secret.version_id=V1 rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID cloud.region=eu-west-1 error.type=ResourceNotFoundException keyturn.cache.forced=false keyturn.secret.id=" + elsewhere + " keyturn.secret.stage=AWSPENDING rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Error",
			"Secrets Manager.GetSecretValue client {aws.request_id=ID aws.secretsmanager.secret.arn=ARN cloud.region=us-east-1 keyturn.cache.forced=false keyturn.secret.id=prod/db keyturn.secret.version_id=V0 rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system=aws-api team=a} Unset",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tel := newTelemetry()
			tel.opts.Attributes = []attribute.KeyValue{attribute.String("team", "a")}
			srv, sdk := service(t)
			c := newCache(t, otel.Client(sdk, tel.with(func(o *otel.Options) { o.SecretIDs = test.ids })), &cache.Options{MinRefresh: -1})
			arn, err := sdk.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
			if err != nil {
				t.Fatal(err)
			}

			_ = c.Prefetch(t.Context(), "prod/api", "no/such")
			v0 := aws.ToString(arn.VersionId)
			_, _ = srv.Rotate(t.Context(), "prod/db", "new")
			s, err := c.Refresh(t.Context(), "prod/db")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.GetStage(t.Context(), elsewhere, cache.Pending)
			_, _ = c.GetVersion(t.Context(), "prod/db", v0)

			var got []string
			for _, line := range tel.lines() {
				if !strings.Contains(line, "=no/such ") && !strings.Contains(line, "us-east-1 error.type") { // what Prefetch did for the one that failed
					got = append(got, strings.NewReplacer(s.ARN(), "ARN", s.VersionID(), "V1", v0, "V0").Replace(line))
				}
			}
			same(t, got, test.want)
		})
	}
}

const elsewhere = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf"

// A span belongs to the read that began the call, and is as long as its duration.
func TestSpanOfARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := newTelemetry()
		srv, sdk := service(t)
		srv.Inject(smtest.Fault{Delay: 40 * time.Millisecond})
		c := newCache(t, otel.Client(sdk, &tel.opts), nil)
		ctx, request := tel.traces.Tracer("test").Start(t.Context(), "request")
		if _, err := c.Get(ctx, "prod/db"); err != nil {
			t.Fatal(err)
		}
		request.End()
		call := tel.spans.Ended()[0]
		if call.Parent().SpanID() != request.SpanContext().SpanID() {
			t.Errorf("the parent is %v", call.Parent())
		}
		if took := call.EndTime().Sub(call.StartTime()); took != 40*time.Millisecond {
			t.Errorf("the span took %v", took)
		}
		for _, line := range tel.series(t) {
			if !strings.HasSuffix(line, " 1 calls, 0.04") {
				t.Errorf("got %s", line)
			}
		}
	})
}

// A failing is a client that answers with an error, or panics.
type failing struct{ err error }

func (f failing) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if f.err == errPanic { //nolint:errorlint // It is never wrapped.
		panic(sentinel)
	}
	return nil, f.err
}

var errPanic = errors.New("panic")

func TestErrorTypes(t *testing.T) {
	api := func(code string) error { return &smithy.GenericAPIError{Code: code, Message: sentinel} }
	op := func(service string, err error) error {
		return &smithy.OperationError{ServiceID: service, OperationName: "Do", Err: err}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for _, test := range []struct {
		err  error
		want string
	}{
		{api("AccessDeniedException"), "AccessDeniedException"},
		{op("Secrets Manager", fmt.Errorf("https response: %w", api("ThrottlingException"))), "ThrottlingException"},
		{op("Secrets Manager", fmt.Errorf("get credentials: %w", op("STS", api("ExpiredToken")))), "STS.ExpiredToken"},
		{api("<html>" + sentinel), "_OTHER"},
		{api(strings.Repeat("x", 65)), "_OTHER"},
		{api(""), "_OTHER"},
		{op("Secrets Manager", &smithy.DeserializationError{Err: errors.New(sentinel), Snapshot: []byte(sentinel)}), "smithy.DeserializationError"},
		{op("Secrets Manager", &smithy.CanceledError{Err: context.Canceled}), "canceled"},
		{op("Secrets Manager", &smithy.CanceledError{Err: context.DeadlineExceeded}), "timeout"},
		{&net.DNSError{Err: "i/o timeout", IsTimeout: true}, "timeout"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}}, "net.DNSError"},
		{op("Secrets Manager", refused), "net.OpError"},
		{&net.OpError{Op: "remote error", Err: &tls.CertificateVerificationError{Err: errors.New("unknown authority")}}, "tls.CertificateVerificationError"},
		{errors.New(sentinel), "_OTHER"},
		{nil, "_OTHER"}, // no answer either
		{errPanic, "_OTHER"},
	} {
		tel := newTelemetry()
		client := otel.Client(failing{test.err}, &tel.opts)
		func() {
			defer func() { _ = recover() }()
			_, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{})
			if err != test.err { //nolint:errorlint // As it is.
				t.Errorf("%v became %v", test.err, err)
			}
		}()
		for _, s := range append(tel.series(t), tel.lines()...) {
			if !strings.Contains(s, " error.type="+test.want+" ") && !strings.Contains(s, "{error.type="+test.want+" ") {
				t.Errorf("%v: got %s, want %s", test.err, s, test.want)
			}
		}
		spans := tel.spans.Ended()
		if len(spans) != 1 || spans[0].Status() != (sdktrace.Status{Code: codes.Error}) || spans[0].SpanKind() != trace.SpanKindClient || len(spans[0].Events()) > 0 {
			t.Errorf("%v: spans %v", test.err, spans)
		}
	}
}

// What a cache looks for in a client is there, and is not made up.
func TestClientKeepsWhatItCan(t *testing.T) {
	type batch interface {
		BatchGetSecretValue(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error)
	}
	type options interface{ Options() secretsmanager.Options }
	_, sdk := service(t)
	for _, test := range []struct {
		name           string
		api            cache.API
		batch, options bool
	}{
		{"neither", cache.Static(nil), false, false},
		{"both", sdk, true, true},
		{"batch", struct {
			cache.API
			batch
		}{sdk, sdk}, true, false},
		{"options", struct {
			cache.API
			options
		}{sdk, sdk}, false, true},
	} {
		client := otel.Client(test.api, nil)
		if b, ok := client.(batch); ok != test.batch {
			t.Errorf("%s: BatchGetSecretValue: %v, want %v", test.name, ok, test.batch)
		} else if ok {
			if _, err := b.BatchGetSecretValue(t.Context(), &secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{"prod/db"}}); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if o, ok := client.(options); ok != test.options {
			t.Errorf("%s: Options: %v, want %v", test.name, ok, test.options)
		} else if ok && o.Options().Region != "us-east-1" {
			t.Errorf("%s: Region %q", test.name, o.Options().Region)
		}
	}
}

// The options of a call arrive: the Region of an ARN, and Keyturn's user agent.
func TestCallOptions(t *testing.T) {
	tel := newTelemetry()
	srv := smtest.New(nil)
	defer srv.Close()
	var agent, host string
	sdk := srv.Client(func(o *secretsmanager.Options) {
		inner := o.HTTPClient
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			agent, host = r.UserAgent(), r.URL.Host
			return inner.Do(r)
		})
	})
	c := newCache(t, otel.Client(sdk, &tel.opts), nil)
	_, _ = c.Get(t.Context(), elsewhere)
	if !strings.Contains(agent, "keyturn/") || !strings.Contains(host, "eu-west-1") {
		t.Errorf("user agent %q, host %q", agent, host)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }
