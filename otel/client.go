package otel

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/middleware"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyturn/keyturn/cache"
)

// What both conventions call the service. That for AWS SDK spans still has the
// keys rpc.system and rpc.service, that for the metric has rpc.system.name.
const (
	system  = "aws-api"
	service = secretsmanager.ServiceID

	systemKey  = attribute.Key("rpc.system")
	serviceKey = attribute.Key("rpc.service")
)

// A batchAPI is what [cache.Cache.Prefetch] looks for in a client.
type batchAPI interface {
	BatchGetSecretValue(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error)
}

// An optionsAPI is what a cache asks for the Region of a client.
type optionsAPI interface {
	Options() secretsmanager.Options
}

// Client returns api with a span and a duration for each call. A call is one of
// the client's: the SDK's own attempts are inside it. What it can besides
// GetSecretValue, and a cache makes use of, the returned one can too. Give it to
// [cache.New], to ClientFor and to Replicas.
//
// A span's parent is the span of the read that began the call. A refresh behind a
// read may end after it, and all who wait for a call share its span.
//
// An instrument that cannot be made is told to OpenTelemetry's error handler, and
// the client works without. A nil api is returned as it is.
func Client(api cache.API, opts *Options) cache.API {
	if api == nil {
		return nil
	}
	o := opts.withDefaults()
	duration, err := rpcconv.NewClientCallDuration(o.meter())
	if err != nil {
		otel.Handle(err)
	}
	c := &client{api: api, opts: o, tracer: o.tracer(), duration: duration}
	batch, hasBatch := api.(batchAPI)
	options, hasOptions := api.(optionsAPI)
	switch {
	case hasBatch && hasOptions:
		return struct {
			batchClient
			optionsAPI
		}{batchClient{c, batch}, options}
	case hasBatch:
		return batchClient{c, batch}
	case hasOptions:
		return struct {
			*client
			optionsAPI
		}{c, options}
	}
	return c
}

// A client measures GetSecretValue.
type client struct {
	api      cache.API
	opts     Options // complete, never changed
	tracer   trace.Tracer
	duration rpcconv.ClientCallDuration
}

// GetSecretValue calls the client's.
func (c *client) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, optFns ...func(*secretsmanager.Options)) (out *secretsmanager.GetSecretValueOutput, err error) {
	ctx, call := c.begin(ctx, "GetSecretValue")
	if in != nil {
		call.asked(in)
	}
	defer func() {
		if out == nil {
			call.end(ctx, nil, err)
			return
		}
		call.answered(out)
		call.end(ctx, &out.ResultMetadata, err)
	}()
	return c.api.GetSecretValue(ctx, in, call.options(optFns)...)
}

// A batchClient measures BatchGetSecretValue too.
type batchClient struct {
	*client

	batch batchAPI
}

// BatchGetSecretValue calls the client's.
func (c batchClient) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, optFns ...func(*secretsmanager.Options)) (out *secretsmanager.BatchGetSecretValueOutput, err error) {
	ctx, call := c.begin(ctx, "BatchGetSecretValue")
	if in != nil {
		call.span.SetAttributes(batchSizeKey.Int(len(in.SecretIdList)))
	}
	defer func() {
		if out == nil {
			call.end(ctx, nil, err)
			return
		}
		if n := len(out.Errors); n > 0 {
			call.span.SetAttributes(batchFailedKey.Int(n))
		}
		call.end(ctx, &out.ResultMetadata, err)
	}()
	return c.batch.BatchGetSecretValue(ctx, in, call.options(optFns)...)
}

// A call is one under way.
type call struct {
	client *client
	span   trace.Span
	began  time.Time
	attrs  []attribute.KeyValue // of span and metric
	region string
}

// begin starts the span of a call, and the clock.
func (c *client) begin(ctx context.Context, method string) (context.Context, *call) {
	began := time.Now()
	attrs := []attribute.KeyValue{
		serviceKey.String(service),
		semconv.RPCMethod(method),
		forcedKey.Bool(cache.Forced(ctx)),
	}
	ctx, span := c.tracer.Start(ctx, service+"."+method, trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(systemKey.String(system)), trace.WithAttributes(attrs...), trace.WithAttributes(c.opts.Attributes...))
	return ctx, &call{client: c, span: span, began: began, attrs: attrs}
}

// options returns optFns, and one that learns which Region the call goes to: a
// cache may tell the client another one for an ARN. A client that has no
// use for the SDK's options names no Region.
func (c *call) options(optFns []func(*secretsmanager.Options)) []func(*secretsmanager.Options) {
	return append(slices.Clip(optFns), func(o *secretsmanager.Options) { c.region = o.Region })
}

// asked notes what a call is for.
func (c *call) asked(in *secretsmanager.GetSecretValueInput) {
	if in.VersionStage != nil {
		c.span.SetAttributes(stageKey.String(*in.VersionStage))
	}
	if !c.client.opts.SecretIDs {
		return
	}
	id := secretIDKey.String(aws.ToString(in.SecretId))
	c.attrs = append(c.attrs, id)
	c.span.SetAttributes(id)
	if in.VersionId != nil {
		c.span.SetAttributes(versionIDKey.String(*in.VersionId))
	}
}

// answered notes what it brought, but for the value.
func (c *call) answered(out *secretsmanager.GetSecretValueOutput) {
	if !c.client.opts.SecretIDs {
		return
	}
	if out.ARN != nil {
		c.span.SetAttributes(semconv.AWSSecretsmanagerSecretARN(*out.ARN))
	}
	if out.VersionId != nil {
		c.span.SetAttributes(versionIDKey.String(*out.VersionId))
	}
}

// end ends the span and records the duration. A nil answer without an error is
// what a cache takes for an error, or a panic on its way.
func (c *call) end(ctx context.Context, answer *middleware.Metadata, err error) {
	ended := time.Now()
	var outcome []attribute.KeyValue
	if c.region != "" {
		outcome = append(outcome, semconv.CloudRegion(c.region))
	}
	if err != nil || answer == nil {
		outcome = append(outcome, semconv.ErrorTypeKey.String(errorType(err)))
		// No description: an error's text may quote what the service sent.
		c.span.SetStatus(codes.Error, "")
	}
	c.span.SetAttributes(outcome...)
	if id := requestID(answer, err); id != "" {
		c.span.SetAttributes(semconv.AWSRequestID(id))
	}
	c.span.End(trace.WithTimestamp(ended))
	c.client.duration.Record(ctx, ended.Sub(c.began).Seconds(), system, slices.Concat(c.attrs, outcome, c.client.opts.Attributes)...)
}

// requestID returns the ID that AWS gave a call, or nothing.
func requestID(answer *middleware.Metadata, err error) string {
	if answer == nil {
		return errorRequestID(err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(*answer)
	return plain(id)
}
