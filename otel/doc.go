// Package otel tells OpenTelemetry what Keyturn does: the calls of Secrets Manager
// as spans and durations, what a cache holds and how it fares, and the logins that
// a target refused.
//
//	client := otel.Client(secretsmanager.NewFromConfig(cfg), nil)
//	c, err := cache.New(client, nil)
//	stop, err := otel.Observe(c, &otel.Options{Secrets: []string{"prod/db"}})
//	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{OnEvent: otel.Events(nil)})
//
// It adds nothing to a read that returns at once: calls are measured where they are
// made, and everything else is read when metrics are collected.
//
// No attribute holds a value, or the text of an error, which may quote anything.
// Names of secrets and of targets are attributes only where [Options] say so, IDs
// of versions only of spans.
//
// Calls follow the semantic conventions for AWS SDK client spans and for the metric
// rpc.client.call.duration; what those do not know begins with keyturn. Every
// instrument is in docs/observability.md, with queries for alerts.
package otel
