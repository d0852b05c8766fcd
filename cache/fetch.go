package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/useragent"
)

type forcedKey struct{}

// Forced reports whether a read is a forced one. A client that has a cache of its
// own asks this of the context it is given, and goes past its cache if so.
func Forced(ctx context.Context) bool {
	forced, _ := ctx.Value(forcedKey{}).(bool)
	return forced
}

// ask reads what the flight is for, and decides whether to take it.
func (e *entry) ask(f *flight) answer {
	a := e.fetch(f.ctx, f.began, e.key)
	return e.consider(f, a)
}

// consider decides whether an answer of the service is taken.
func (e *entry) consider(f *flight, a answer) answer {
	var held *Secret
	if o := e.last.Load(); o != nil {
		held = o.secret
	}
	if a.err == nil && movesBack(held, a.secret) {
		// Either the service answered from a replica of its own that lags, or
		// somebody moved the label back. A second read tells.
		a = e.fetch(context.WithValue(f.ctx, forcedKey{}, true), f.began, e.key)
	}
	if a.err != nil || e.key.version != "" || held != nil && held.versionID == a.secret.versionID {
		return a
	}
	err := e.cache.validate(a.secret)
	if err == nil {
		return a
	}
	rejected := answer{err: err, arn: a.arn}
	if held == nil && e.key.stage == "" {
		// Nothing else to go by. AWSPREVIOUS was good until a moment ago.
		previous := e.fetch(f.ctx, f.began, key{id: e.key.id, stage: Previous})
		if previous.err == nil && e.cache.validate(previous.secret) == nil {
			rejected.secret = previous.secret
		}
	}
	return rejected
}

// validate asks Options.Validate.
func (c *Cache) validate(s *Secret) (err error) {
	if c.opts.Validate == nil {
		return nil
	}
	defer func() {
		if value := recover(); value != nil {
			err = panicked("Options.Validate", value)
		}
		if err != nil {
			c.counters.rejections.Add(1)
			err = &rejection{version: s.versionID, err: err}
		}
	}()
	return c.opts.Validate(s)
}

// A rejection is the error of a version that Options.Validate does not like.
type rejection struct {
	version string
	err     error
}

func (r *rejection) Error() string {
	return fmt.Sprintf("version %s was rejected by Options.Validate: %v", r.version, r.err)
}

func (r *rejection) Unwrap() error { return r.err }

// movesBack reports whether the label went from a version to an older one.
func movesBack(from, to *Secret) bool {
	return from != nil && from.versionID != to.versionID && to.created.Before(from.created)
}

// fetch reads k from the secret's own Region, or where that fails from those that
// it is replicated to. They share Options.FetchTimeout: each gets an equal part of
// what is left. The error is that of the secret's own.
func (e *entry) fetch(ctx context.Context, began time.Time, k key) answer {
	c := e.cache
	api, optFns, err := c.source(k.id)
	if err != nil {
		return answer{err: err}
	}
	replicas := c.replicas(k.id)
	ctx, cancel := context.WithTimeout(ctx, c.opts.FetchTimeout)
	defer cancel()
	a := e.call(ctx, api, k, began, len(replicas), optFns...)
	if a.err == nil || !transient(a.err) {
		return a
	}
	for i, replica := range replicas {
		k.id = replica.id
		b := e.call(ctx, replica.api, k, began, len(replicas)-1-i)
		if b.err == nil && e.replicated(b.secret) {
			b.arn = "" // it is not what the ID means at home
			return b
		}
	}
	return a
}

// replicated reports whether s, from another Region, is the secret that the ID is
// known to mean, if it is: another one may have the same name there.
func (e *entry) replicated(s *Secret) bool {
	c := e.cache
	c.mu.Lock()
	home := e.arn
	if current := c.table.Load().find(key{id: e.key.id}); home == "" && current != nil {
		home = current.arn
	}
	c.mu.Unlock()
	there, ok := inRegion(home, arnRegion(s.arn))
	return home == "" || s.arn == home || ok && s.arn == there
}

// call makes one call, and leaves time for so many others.
func (e *entry) call(ctx context.Context, api API, k key, began time.Time, others int, optFns ...func(*secretsmanager.Options)) answer {
	if k.id == "" {
		return answer{err: errors.New("the secret ID is empty; give the name or the ARN of a secret")}
	}
	if err := ctx.Err(); err != nil {
		return answer{err: err} // left by all who waited
	}
	deadline, _ := ctx.Deadline()
	timeout := time.Until(deadline) / time.Duration(1+others)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	in := &secretsmanager.GetSecretValueInput{SecretId: aws.String(k.id)}
	switch {
	case k.version != "":
		in.VersionId = aws.String(k.version)
	case k.stage != "":
		in.VersionStage = aws.String(k.stage)
	default:
		in.VersionStage = aws.String(Current)
	}
	e.cache.counters.calls.Add(1)
	out, err := api.GetSecretValue(ctx, in, append(optFns, useragent.Tag)...)
	if err != nil {
		return answer{err: callError(ctx, timeout, err)}
	}
	if out == nil {
		return answer{err: errors.New("the client returned neither a value nor an error")}
	}
	return accept(k, newSecret(out, began, e.cache.clock))
}

// callError returns what is told of a call's error.
func callError(ctx context.Context, timeout time.Duration, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		// Not err: it is a context error, and would tell a reader that its own
		// context has ended.
		return errors.New("no answer within " + timeout.Round(time.Millisecond).String())
	}
	return sanitize(err)
}

// accept checks that a secret is one that was asked for, and whole.
func accept(k key, s *Secret) answer {
	switch {
	case s.reveal == nil:
		return answer{err: errors.New("the service's answer holds no value")}
	case s.versionID == "":
		// Versions are told apart by it: what was refused, what is decoded.
		return answer{err: errors.New("the service's answer names no version")}
	case k.version != "" && s.versionID != k.version:
		return answer{err: fmt.Errorf("the service answered with version %s", s.versionID)}
	case isARN(k.id) && s.arn != "" && !means(k.id, s.arn):
		return answer{err: fmt.Errorf("the service answered with the secret %q", s.arn)}
	}
	return answer{secret: s, arn: s.arn}
}
