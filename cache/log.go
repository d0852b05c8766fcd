package cache

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// log writes what a flight came to: at Debug, but for what has changed with it.
func (e *entry) log(ctx context.Context, before, o *outcome) {
	var failed *failure
	if before != nil {
		failed = before.fail
	}
	switch {
	case o.fail == nil && failed == nil:
		e.write(ctx, slog.LevelDebug, "secret read", o)
	case o.fail == nil && e.ordinary(failed):
		e.write(ctx, slog.LevelDebug, "secret read", o)
	case o.fail == nil:
		e.write(ctx, slog.LevelInfo, "secret read again", o, slog.Int("failures", failed.count))
	case e.ordinary(o.fail):
		e.write(ctx, slog.LevelDebug, "secret not read", o, slog.Any("error", o.fail.err))
	case failed != nil && failed.err.Transient == o.fail.err.Transient && !e.ordinary(failed):
		e.write(ctx, slog.LevelDebug, "secret still not read", o, slog.Any("error", o.fail.err), slog.Int("failures", o.fail.count))
	default:
		e.write(ctx, slog.LevelWarn, "secret not read", o, slog.Any("error", o.fail.err))
	}
}

// ordinary reports whether a failure is nothing out of the ordinary: most of the
// time no version is AWSPENDING.
func (e *entry) ordinary(f *failure) bool {
	return (e.key.stage != "" || e.key.version != "") && errors.Is(f.err, ErrNotFound)
}

// logStale writes that a value is served beyond its TTL.
func (e *entry) logStale(ctx context.Context, o *outcome) {
	attrs := []slog.Attr{slog.Duration("age", e.cache.clock.Since(o.secret.fetched).Round(time.Millisecond))}
	if o.fail != nil {
		attrs = append(attrs, slog.Any("error", o.fail.err))
	}
	e.write(ctx, slog.LevelWarn, "stale secret served", o, attrs...)
}

func (e *entry) write(ctx context.Context, level slog.Level, message string, o *outcome, attrs ...slog.Attr) {
	logger := e.cache.opts.Logger
	if !logger.Enabled(ctx, level) {
		return
	}
	all := []slog.Attr{slog.String("secret_id", e.key.id)}
	if e.key.version == "" {
		all = append(all, slog.String("stage", e.key.label()))
	}
	if o.secret != nil {
		all = append(all, slog.String("version_id", o.secret.versionID))
	}
	logger.LogAttrs(ctx, level, message, append(all, attrs...)...)
}
