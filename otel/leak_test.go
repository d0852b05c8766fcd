package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// A value shows nowhere, with everything on: not if it is read, not if the service
// quotes it, not if its answer is broken, not if the target quotes it.
func TestNothingLeaks(t *testing.T) {
	tel := newTelemetry()
	opts := tel.with(func(o *otel.Options) {
		o.SecretIDs, o.Targets, o.Secrets = true, true, []string{"prod/db", "prod/api"}
	})
	srv, sdk := service(t)
	broken := srv.Client(func(o *secretsmanager.Options) {
		o.HTTPClient = doer(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"X-Amzn-Requestid": {"<" + sentinel + ">"}},
				Body: io.NopCloser(strings.NewReader(`{"SecretString":{"` + sentinel + `"`)),
			}, nil
		})
	})
	var logs bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client := otel.Client(sdk, opts)
	c := newCache(t, client, &cache.Options{Logger: logger})
	observe(t, c, opts)
	if _, err := c.Get(t.Context(), "prod/db"); err != nil {
		t.Fatal(err)
	}
	_, err := newCache(t, otel.Client(broken, opts), &cache.Options{Logger: logger}).Get(t.Context(), "prod/db")
	leaktest.Check(t, sentinel, err)
	// These quote it in what a cache passes on and logs: error texts are the client's.
	srv.Inject(smtest.Fault{SecretID: "prod/api", Err: &smtest.Error{Code: "Weird " + sentinel, Message: sentinel}})
	_, _ = newCache(t, client, nil).Get(t.Context(), "prod/api")
	_, _ = newCache(t, otel.Client(failing{errors.New(sentinel)}, opts), nil).Get(t.Context(), "prod/api")

	count := otel.Events(opts)
	r := retry.New(c, "prod/db", isRefusal, &retry.Options{
		OnEvent: count, Logger: logger, Patience: -1,
		Code: func(err error) string { return err.Error() },
	})
	_ = r.Do(t.Context(), func(context.Context, *cache.Secret) error { return errRefused })
	c.Close() // and tells all events

	var shown bytes.Buffer
	metrics := tel.collect(t)
	fmt.Fprintf(&shown, "%+v %#v", metrics, metrics)
	_ = json.NewEncoder(&shown).Encode(metrics)
	spans := tracetest.SpanStubsFromReadOnlySpans(tel.spans.Ended())
	fmt.Fprintf(&shown, "%+v", spans)
	_ = json.NewEncoder(&shown).Encode(spans)
	if len(spans) < 4 || !strings.Contains(shown.String(), "prod/db") || !strings.Contains(shown.String(), "refused") {
		t.Fatalf("too little was told to prove anything: %s", shown.String())
	}
	for what, text := range map[string]string{"metrics and spans": shown.String(), "logs": logs.String()} {
		if i := strings.Index(text, sentinel); i >= 0 {
			t.Errorf("%s show the secret: %s", what, text[max(0, i-200):i+40])
		}
	}
	leaktest.Check(t, sentinel, client)
	leaktest.Check(t, sentinel, opts)
	leaktest.Check(t, sentinel, count)
}
