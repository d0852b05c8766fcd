package otel

import (
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyturn/keyturn/internal/useragent"
)

// scope is the name of the instrumentation.
const scope = "github.com/keyturn/keyturn/otel"

// The attributes that no semantic convention has.
const (
	forcedKey      = attribute.Key("keyturn.cache.forced")
	batchSizeKey   = attribute.Key("keyturn.batch.size")
	batchFailedKey = attribute.Key("keyturn.batch.failed")
	secretIDKey    = attribute.Key("keyturn.secret.id")
	versionIDKey   = attribute.Key("keyturn.secret.version_id")
	stageKey       = attribute.Key("keyturn.secret.stage")
	stateKey       = attribute.Key("keyturn.secret.state")
	eventKey       = attribute.Key("keyturn.retry.event")
	outcomeKey     = attribute.Key("keyturn.retry.outcome")
	targetKey      = attribute.Key("keyturn.retry.target")
)

// Options are the settings of this package's functions. The zero value of each
// field is its documented default.
type Options struct {
	// MeterProvider makes the instruments. Default: the global one.
	MeterProvider metric.MeterProvider

	// TracerProvider makes the spans of [Client]. Default: the global one.
	TracerProvider trace.TracerProvider

	// Secrets are the secrets whose state and age [Observe] reports, by name or
	// ARN, as the program reads them. Default: none.
	Secrets []string

	// SecretIDs has metrics and spans tell secrets apart, by the attribute
	// keyturn.secret.id: as many time series more as the program reads secrets.
	// Spans get the version, and from the answer the ARN, too. Default: off.
	SecretIDs bool

	// Targets has the metric of [Events] tell targets apart, by the attribute
	// keyturn.retry.target: as many time series more as there are addresses that
	// the program logs in to. Default: off.
	Targets bool

	// Attributes are added to every metric and span: what tells two caches of a
	// process apart, say. Without, their counts add up. Default: none.
	Attributes []attribute.KeyValue
}

// withDefaults returns a copy with every zero field filled in.
func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	if opts.TracerProvider == nil {
		opts.TracerProvider = otel.GetTracerProvider()
	}
	opts.Secrets = slices.Clone(opts.Secrets)
	opts.Attributes = slices.Clone(opts.Attributes)
	return opts
}

func (o *Options) meter() metric.Meter {
	return o.MeterProvider.Meter(scope, metric.WithInstrumentationVersion(useragent.Version))
}

func (o *Options) tracer() trace.Tracer {
	return o.TracerProvider.Tracer(scope, trace.WithInstrumentationVersion(useragent.Version))
}

// set returns the attributes of a measurement. Of equal keys the last one counts.
func (o *Options) set(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(slices.Concat(attrs, o.Attributes)...))
}
