package otel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/smtest"
)

// sentinel is the value of every secret: it must not show.
const sentinel = "hunter2s3ntinel"

// A telemetry is OpenTelemetry's own SDK, and what it got.
type telemetry struct {
	reader *sdkmetric.ManualReader
	spans  *tracetest.SpanRecorder
	traces *sdktrace.TracerProvider
	opts   otel.Options
}

func newTelemetry() *telemetry {
	tel := &telemetry{reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	tel.traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tel.spans))
	tel.opts.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(tel.reader))
	tel.opts.TracerProvider = tel.traces
	return tel
}

// with returns the options, changed.
func (tel *telemetry) with(change func(*otel.Options)) *otel.Options {
	opts := tel.opts
	change(&opts)
	return &opts
}

// collect returns what a reader of metrics gets.
func (tel *telemetry) collect(t *testing.T) metricdata.ResourceMetrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := tel.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// series returns each series as a line: name, kind, unit, attributes, value.
func (tel *telemetry) series(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, scope := range tel.collect(t).ScopeMetrics {
		if scope.Scope.Name != "github.com/keyturn/keyturn/otel" || scope.Scope.Version == "" {
			t.Errorf("scope %+v", scope.Scope)
		}
		for _, m := range scope.Metrics {
			if m.Description == "" {
				t.Errorf("%s has no description", m.Name)
			}
			add := func(kind string, attrs attribute.Set, value any) {
				lines = append(lines, fmt.Sprintf("%s %s %s {%s} %v", m.Name, kind, m.Unit, text(attrs.ToSlice()), value))
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				kind := "updown"
				if data.IsMonotonic {
					kind = "counter"
				}
				for _, p := range data.DataPoints {
					add(kind, p.Attributes, p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add("gauge", p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add("histogram", p.Attributes, fmt.Sprintf("%d calls, %g", p.Count, p.Sum))
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// text returns attributes, sorted.
func text(attrs []attribute.KeyValue) string {
	var all []string
	for _, a := range attrs {
		all = append(all, string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// same reports differences, line by line.
func same(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(want)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("got  %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("want %s", line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
}

// service returns a Secrets Manager with two secrets, and a client of one attempt.
func service(t *testing.T) (*smtest.Server, *secretsmanager.Client) {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put("prod/db", sentinel)
	srv.Put("prod/api", sentinel)
	return srv, srv.Client(func(o *secretsmanager.Options) { o.Retryer = aws.NopRetryer{} })
}

func newCache(t *testing.T, client cache.API, opts *cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// observe has Observe stop at the end of the test.
func observe(t *testing.T, c *cache.Cache, opts *otel.Options) {
	t.Helper()
	stop, err := otel.Observe(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stop() })
}
