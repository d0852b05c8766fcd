package cache

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// The staging labels that Secrets Manager itself moves. A secret may carry
// others.
const (
	Current  = "AWSCURRENT"  // the version in use
	Pending  = "AWSPENDING"  // the version that a rotation is bringing in
	Previous = "AWSPREVIOUS" // the version that was in use before
)

// An API reads secret values. [*secretsmanager.Client] is one. It must be safe
// for concurrent use. If it has BatchGetSecretValue as that client has it,
// [Cache.Prefetch] uses it.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// A Mode says whether something is on.
type Mode int

// The modes of Options.Serverless.
const (
	Auto Mode = iota // as the environment says
	On
	Off
)

// Options are the settings of a [Cache]. The zero value of each field is its
// documented default.
type Options struct {
	// TTL is how long a value is served without asking the service again,
	// counted from the start of the call that read it. Default 5 minutes.
	// Negative: not at all, every read asks.
	TTL time.Duration

	// StaleWait is how long reads of a value beyond its TTL wait for the call
	// that refreshes it, counted from the start of that call, before they
	// return what is held while it goes on. Default 1 second. Negative: not at
	// all.
	StaleWait time.Duration

	// MaxStale is how long beyond its TTL a value is returned while the service
	// does not answer, throttles or fails: it is asked again behind the reads,
	// after 1 second, 2, 4, up to a minute. A service that denies the secret, or
	// does not know it any more, ends that at once. Default 24 hours. Negative:
	// not at all.
	MaxStale time.Duration

	// MinRefresh is the least time between two forced reads of one secret and
	// label; within it [Cache.Refresh] and [Cache.RefreshIf] return the answer
	// of the last read. Default 1 second. Negative: no limit.
	MinRefresh time.Duration

	// FetchTimeout bounds one read from the service, the client's own attempts
	// included. No reader's context does: readers share the call. With Replicas
	// each Region gets its part of it. Default 10 seconds.
	FetchTimeout time.Duration

	// MaxEntries bounds what is held: a secret counts once for each label and
	// version of it that was asked for. Beyond that, what was not read for a
	// while goes. Default 1024. Negative: no bound.
	MaxEntries int

	// Serverless is for programs that are frozen between requests. When on,
	// nothing runs in the background: values are not refreshed ahead of their
	// TTL but by the read that needs it, a call ends when nobody waits for it
	// any more, and time is told by the wall clock where the monotonic one
	// stood still. [Auto] is on in AWS Lambda, but for managed instances, which
	// are not frozen.
	Serverless Mode

	// ClientFor returns the client for a Region, for secrets whose ARN names
	// another one than that of the client given to [New]. It is asked once per
	// Region. Default: the same client, told the Region at each call, which does
	// for [*secretsmanager.Client] unless it has an endpoint of its own.
	ClientFor func(region string) API

	// Replicas are clients for the Regions that secrets are replicated to. If a
	// secret's own Region does not answer, throttles or fails, they are asked
	// in this order. Default: none.
	Replicas []API

	// Validate looks at a version that was not held before. If it returns an
	// error the version is not taken: the last good one stays, as long as in an
	// outage, and where none is held AWSPREVIOUS is taken for AWSCURRENT. The
	// error shows in logs and errors, so it must not quote the value.
	// [Cache.GetVersion] does not ask it. It must not read the same secret.
	Validate func(*Secret) error

	// OnChange is called when AWSCURRENT was found on another version than
	// before: one call at a time, in order, not while anybody waits; in
	// serverless mode by the read that found out, before it returns. It must
	// not call [Cache.Close].
	OnChange func(old, new *Secret)

	// Logger gets every read at Debug, and at Warn that a secret cannot be read
	// any more, or that a value is served beyond its TTL: once, and not again
	// until that has changed. Never a value. Default: silent.
	Logger *slog.Logger
}

// withDefaults returns a copy with every zero field filled in.
func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.FetchTimeout < 0 {
		return opts, fmt.Errorf("cache: Options.FetchTimeout is %v; leave it zero for the default", opts.FetchTimeout)
	}
	if opts.Serverless < Auto || opts.Serverless > Off {
		return opts, fmt.Errorf("cache: Options.Serverless is %d; it is cache.Auto, cache.On or cache.Off", opts.Serverless)
	}
	for i, replica := range opts.Replicas {
		if replica == nil {
			return opts, fmt.Errorf("cache: Options.Replicas[%d] is nil; give it a client for a Region", i)
		}
	}
	if opts.TTL == 0 {
		opts.TTL = 5 * time.Minute
	}
	opts.TTL = max(opts.TTL, 0)
	if opts.StaleWait == 0 {
		opts.StaleWait = time.Second
	}
	if opts.MaxStale == 0 {
		opts.MaxStale = 24 * time.Hour
	}
	opts.MaxStale = max(opts.MaxStale, 0)
	if opts.MinRefresh == 0 {
		opts.MinRefresh = time.Second
	}
	if opts.FetchTimeout == 0 {
		opts.FetchTimeout = 10 * time.Second
	}
	if opts.MaxEntries == 0 {
		opts.MaxEntries = 1024
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return opts, nil
}

// serverless reports whether the mode is on. The environment is Lambda's, see
// "Defined runtime environment variables" in the AWS Lambda Developer Guide. An
// instance with provisioned concurrency is frozen like any other.
func (m Mode) serverless() bool {
	if m == Auto {
		return os.Getenv("AWS_LAMBDA_FUNCTION_NAME") != "" &&
			os.Getenv("AWS_LAMBDA_INITIALIZATION_TYPE") != "lambda-managed-instances"
	}
	return m == On
}
