package otel_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// The password has changed, and the old one is refused once.
func ExampleEvents() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/api", "key-1")
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Get(context.Background(), "prod/api"); err != nil {
		log.Fatal(err)
	}
	if _, err := srv.Rotate(context.Background(), "prod/api", "key-2"); err != nil {
		log.Fatal(err)
	}

	reader := sdkmetric.NewManualReader()
	count := otel.Events(&otel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	errUnauthorized := errors.New("401 unauthorized")
	// With a database: postgres.Options{OnEvent: count}.
	r := retry.New(c, "prod/api", func(err error) bool { return errors.Is(err, errUnauthorized) }, &retry.Options{
		Code:    func(error) string { return "401" },
		OnEvent: count,
	})
	err = r.Do(context.Background(), func(_ context.Context, s *cache.Secret) error {
		if s.Text() != "key-2" {
			return errUnauthorized
		}
		return nil
	})
	c.Close() // waits for what is told behind the logins

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, p := range collected.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		event, _ := p.Attributes.Value("keyturn.retry.event")
		code, _ := p.Attributes.Value("error.type")
		fmt.Println(event.AsString(), code.AsString(), p.Value)
	}
	fmt.Println("Do:", err)
	// Unordered output:
	// tried  2
	// refused 401 1
	// quarantined 401 1
	// proven  1
	// Do: <nil>
}
