package otel_test

import (
	"context"
	"fmt"
	"log"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/smtest"
)

func Example() {
	// In a program: secretsmanager.NewFromConfig(cfg), and the providers that
	// export. If they are the global ones, the options need not name them.
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "secret")
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	opts := &otel.Options{
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		Secrets:        []string{"prod/db"},
	}

	c, err := cache.New(otel.Client(srv.Client(), opts), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	stop, err := otel.Observe(c, opts)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	for range 1000 {
		if _, err := c.Get(context.Background(), "prod/db"); err != nil {
			log.Fatal(err)
		}
	}

	for _, span := range spans.Ended() {
		fmt.Println("span:", span.Name())
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
	}
	// Output:
	// span: Secrets Manager.GetSecretValue
	// rpc.client.call.duration s
	// keyturn.cache.calls {call}
	// keyturn.cache.failures {read}
	// keyturn.cache.waits {read}
	// keyturn.cache.stale_reads {read}
	// keyturn.cache.changes {version}
	// keyturn.cache.rejections {version}
	// keyturn.cache.evictions {entry}
	// keyturn.cache.entries {entry}
	// keyturn.cache.secrets {secret}
	// keyturn.cache.secret.age s
}
