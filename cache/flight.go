package cache

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/useragent"
)

// A flight is one read from the service, shared by all who wait for it.
type flight struct {
	number  uint64
	began   time.Time
	done    chan struct{} // closed at its end
	outcome *outcome      // written before done is closed
}

// startLocked starts a flight, or returns nil if the Cache is closed. The
// caller holds e.mu.
func (e *entry) startLocked(ctx context.Context, op op) *flight {
	e.number++
	f := &flight{number: e.number, began: time.Now(), done: make(chan struct{})}
	// Detached: the first reader to come keeps its values (traces hang on
	// them), but its end is not the other readers'.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cache.opts.FetchTimeout)
	stop := context.AfterFunc(e.cache.done, cancel)
	ok := e.cache.fly(func() {
		defer cancel()
		defer stop()
		e.run(ctx, f, op)
	})
	if !ok {
		stop()
		cancel()
		return nil
	}
	e.flight = f
	return f
}

// run is a flight, from the call to the outcome.
func (e *entry) run(ctx context.Context, f *flight, op op) {
	o := &outcome{flight: f.number, began: f.began, err: e.fail(op, f.began, panicked(nil))}
	before := e.last.Load()
	if before != nil {
		o.secret = before.secret
	}
	// Deferred, so that a client that panics, or ends the goroutine as a failing
	// test does, leaves an error to the readers and not a flight without end.
	defer func() {
		if value := recover(); value != nil {
			o.err = e.fail(op, f.began, panicked(value))
		}
		if o.err != nil {
			if before != nil {
				o.failures = before.failures
			}
			o.retry = time.Now().Add(backoff(o.failures))
			o.failures++
		}
		f.outcome = o
		e.mu.Lock()
		e.flight = nil
		e.last.Store(o)
		e.mu.Unlock()
		close(f.done)
		e.log(ctx, o) // last: a slow handler is not the readers' business
	}()
	secret, err := e.read(ctx, f.began)
	if err == nil && before != nil && movesBack(before.secret, secret) {
		// Either the service answered from a replica of its own that lags, or
		// somebody moved the label back. A second read tells.
		secret, err = e.read(ctx, f.began)
	}
	if err != nil {
		o.err = e.fail(op, f.began, err)
		return
	}
	o.secret, o.err = secret, nil
}

// The back-off between the reads of an entry that fails.
const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// backoff returns the pause after so many failures before this one, spread over
// half of itself so that fleets do not ask together.
func backoff(failures int) time.Duration {
	d := lastBackoff
	if failures < 6 { // 1 s, 2 s, .. 32 s
		d = firstBackoff << failures
	}
	return d/2 + rand.N(d/2+1)
}

// movesBack reports whether the label went from a version to an older one.
func movesBack(from, to *Secret) bool {
	return from != nil && from.versionID != to.versionID && to.created.Before(from.created)
}

// read makes one call.
func (e *entry) read(ctx context.Context, began time.Time) (*Secret, error) {
	if e.id == "" {
		return nil, errors.New("the secret ID is empty; give the name or the ARN of a secret")
	}
	out, err := e.cache.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId:     aws.String(e.id),
		VersionStage: aws.String(e.stage),
	}, useragent.Tag)
	switch {
	case err == nil && out == nil:
		return nil, errors.New("the client returned neither a value nor an error")
	case err == nil && out.SecretString == nil && out.SecretBinary == nil:
		return nil, errors.New("the service's answer holds no value")
	case err == nil && aws.ToString(out.VersionId) == "":
		// Versions are told apart by it: what was refused, what is decoded.
		return nil, errors.New("the service's answer names no version")
	case err == nil:
		return newSecret(out, began), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		// Not err: it is a context error, and would tell a reader that its own
		// context has ended.
		return nil, errors.New("no answer within " + e.cache.opts.FetchTimeout.String())
	}
	return nil, sanitize(err)
}

// fail returns err as this entry's error.
func (e *entry) fail(op op, began time.Time, err error) *Error {
	return &Error{SecretID: e.id, Stage: e.stage, Op: string(op), Transient: transient(err), Began: began, Err: err}
}

func (e *entry) log(ctx context.Context, o *outcome) {
	logger, attrs := e.cache.opts.Logger, []slog.Attr{slog.String("secret_id", e.id), slog.String("stage", e.stage)}
	if o.err != nil {
		level := slog.LevelWarn
		if e.stage != Current && errors.Is(o.err, ErrNotFound) {
			level = slog.LevelDebug // most of the time no version is AWSPENDING
		}
		logger.LogAttrs(ctx, level, "secret not read", append(attrs, slog.Any("error", o.err))...)
		return
	}
	logger.LogAttrs(ctx, slog.LevelDebug, "secret read", append(attrs, slog.String("version_id", o.secret.versionID))...)
}
