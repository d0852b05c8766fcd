package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/useragent"
)

// An entry is what the Cache knows of one secret under one staging label.
type entry struct {
	cache *Cache
	id    string
	stage string

	// last is how the last flight ended, nil before the first. Outcomes are
	// immutable and replaced whole, so that a read is one load.
	last atomic.Pointer[outcome]

	mu     sync.Mutex // protects following; never held across I/O
	flight *flight    // under way, or nil: one at a time
	number uint64     // of the last flight that was started
}

// A flight is one read from the service, shared by all who wait for it.
type flight struct {
	number  uint64
	began   time.Time
	done    chan struct{} // closed at its end
	outcome *outcome      // written before done is closed
}

// An outcome is what a flight left behind.
type outcome struct {
	flight uint64    // its number
	began  time.Time // its start
	secret *Secret   // what it read; if it failed, what the one before it left
	err    *Error    // why it failed, or nil
}

// result is what a read returns that takes this outcome for its answer.
func (o *outcome) result() (*Secret, error) {
	if o.err != nil {
		return nil, o.err
	}
	return o.secret, nil
}

// state says what a read may do with an outcome.
type state int

const (
	expired state = iota // ask the service
	fresh                // take the value
	dead                 // take the error
)

// state decides, for every read there is. A value stays good until its TTL,
// whatever became of a forced read of it. A failure is held as long as a forced
// read is: a wrong name in a hot path must not become an API bill.
func (e *entry) state(o *outcome) state {
	switch {
	case o == nil:
		return expired
	case o.secret != nil && time.Since(o.secret.fetched) < e.cache.opts.TTL:
		return fresh
	case o.err != nil && !o.err.Transient && time.Since(o.began) < e.cache.opts.MinRefresh:
		return dead
	}
	return expired
}

func (e *entry) get(ctx context.Context) (*Secret, error) {
	// The closed check comes first although it is the rarer case: a program
	// that closed its Cache must not go on by chance until the TTL.
	if e.cache.isClosed() {
		return nil, ErrClosed
	}
	o := e.last.Load()
	switch e.state(o) {
	case fresh:
		return o.secret, nil
	case dead:
		return nil, o.err
	}
	// The next outcome will do, whoever caused it.
	return e.wait(ctx, "get", func(now *outcome) bool { return now != o }, func(*flight) bool { return true })
}

func (e *entry) refresh(ctx context.Context) (*Secret, error) {
	after := e.started()
	return e.wait(
		ctx, "refresh",
		func(o *outcome) bool { return o.flight > after || e.limited(o) },
		func(f *flight) bool { return f.number > after },
	)
}

func (e *entry) refreshIf(ctx context.Context, versionID string) (*Secret, error) {
	if o := e.last.Load(); o != nil && o.secret != nil && o.secret.versionID != versionID {
		return e.get(ctx)
	}
	after := e.started()
	return e.wait(
		ctx, "refresh",
		func(o *outcome) bool {
			return o.flight > after || e.limited(o) || o.err == nil && o.secret.versionID != versionID
		},
		func(f *flight) bool { return f.number > after },
	)
}

func (e *entry) refreshAfter(ctx context.Context, t time.Time) (*Secret, error) {
	// The number as well as the instant: a flight of our own would else not
	// count where the clock stands still (in a synctest bubble) or t lies ahead.
	after := e.started()
	return e.wait(
		ctx, "refresh",
		func(o *outcome) bool { return o.flight > after || o.began.After(t) },
		func(f *flight) bool { return f.number > after || f.began.After(t) },
	)
}

// started returns the number of the last flight that was started: a flight with
// a higher number began after now.
func (e *entry) started() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.number
}

// limited reports whether Options.MinRefresh forbids a forced read after o,
// which then is the answer, be it a failure: callers that were refused a login
// come in numbers.
func (e *entry) limited(o *outcome) bool { return time.Since(o.began) < e.cache.opts.MinRefresh }

// wait returns the result of the last flight if held accepts it, else of one
// that joins accepts: it waits out a flight that joins refuses, and starts one
// if there is none. It leaves a flight to its other readers when ctx ends.
func (e *entry) wait(ctx context.Context, op string, held func(*outcome) bool, joins func(*flight) bool) (*Secret, error) {
	for {
		if e.cache.isClosed() {
			return nil, ErrClosed
		}
		e.mu.Lock()
		if o := e.last.Load(); o != nil && held(o) {
			e.mu.Unlock()
			return o.result()
		}
		f := e.flight
		// A reader that has given up already starts no call.
		if f == nil && ctx.Err() == nil {
			if f = e.startLocked(ctx, op); f == nil {
				e.mu.Unlock()
				return nil, ErrClosed
			}
		}
		e.mu.Unlock()
		if f == nil {
			return nil, e.fail(op, time.Now(), ctx.Err())
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, e.fail(op, time.Now(), ctx.Err())
		case <-e.cache.done.Done():
			return nil, ErrClosed
		}
		// f's own outcome, and not the entry's last: that may be a later flight's
		// by now, and a failure where f brought what was asked for.
		if joins(f) {
			if e.cache.isClosed() {
				return nil, ErrClosed
			}
			return f.outcome.result()
		}
	}
}

// startLocked starts a flight, or returns nil if the Cache is closed. The
// caller holds e.mu.
func (e *entry) startLocked(ctx context.Context, op string) *flight {
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
func (e *entry) run(ctx context.Context, f *flight, op string) {
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

// movesBack reports whether the label went from a version to an older one.
func movesBack(from, to *Secret) bool {
	return from != nil && from.versionID != to.versionID && to.created.Before(from.created)
}

// read makes one call.
func (e *entry) read(ctx context.Context, began time.Time) (*Secret, error) {
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
func (e *entry) fail(op string, began time.Time, err error) *Error {
	return &Error{SecretID: e.id, Stage: e.stage, Op: op, Transient: transient(err), Began: began, Err: err}
}

func (e *entry) log(ctx context.Context, o *outcome) {
	logger, attrs := e.cache.opts.Logger, []slog.Attr{slog.String("secret_id", e.id), slog.String("stage", e.stage)}
	if o.err != nil {
		logger.LogAttrs(ctx, slog.LevelWarn, "secret not read", append(attrs, slog.Any("error", o.err))...)
		return
	}
	logger.LogAttrs(ctx, slog.LevelDebug, "secret read", append(attrs, slog.String("version_id", o.secret.versionID))...)
}
