package otel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/keyturn/keyturn/retry"
)

// Events returns a function for the OnEvent of retry.Options and of the packages
// under dbconn. It counts events by kind, staging label and the target's error
// code. It may serve any number of them.
//
// An instrument that cannot be made is told to OpenTelemetry's error handler, and
// the function counts nothing.
func Events(opts *Options) func(retry.Event) {
	o := opts.withDefaults()
	events, err := o.meter().Int64Counter("keyturn.retry.events", metric.WithUnit("{event}"),
		metric.WithDescription("What happened to versions of secrets at their targets."))
	if err != nil {
		otel.Handle(err)
	}
	return func(e retry.Event) {
		attrs := []attribute.KeyValue{eventKey.String(string(e.Kind))}
		if e.Stage != "" {
			attrs = append(attrs, stageKey.String(e.Stage))
		}
		if e.Err != nil {
			attrs = append(attrs, semconv.ErrorTypeKey.String(codeOf(e.Code)))
		}
		if o.SecretIDs {
			attrs = append(attrs, secretIDKey.String(e.SecretID))
		}
		if o.Targets {
			attrs = append(attrs, targetKey.String(e.Target))
		}
		// Events are told behind the logins: there is no span to refer to.
		events.Add(context.Background(), 1, o.set(attrs...))
	}
}
