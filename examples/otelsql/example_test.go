// Package otelsql shows OpenTelemetry's spans around the driver. otelsql wraps the
// connector: what a connect waits for during a rotation is in its span. It passes
// on ResetSession, so old connections retire as they do without it.
package otelsql_test

import (
	"context"
	"fmt"
	"log"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

func Example() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	connector, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		log.Fatal(err)
	}

	spans := tracetest.NewSpanRecorder() // in a program: the provider that exports them
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	db := otelsql.OpenDB(connector,
		otelsql.WithTracerProvider(provider),
		otelsql.WithAttributes(attribute.String("db.system.name", "postgresql")),
	)
	defer db.Close()

	ctx, request := provider.Tracer("shop").Start(context.Background(), "GET /orders")
	var user string
	err = db.QueryRowContext(ctx, "select current_user").Scan(&user)
	request.End()

	fmt.Println(err, user)
	for _, span := range spans.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// <nil> app
	// sql.connector.connect
	// sql.conn.query
	// sql.rows
	// GET /orders
}
