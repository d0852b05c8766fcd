package cache

import (
	"context"
	"fmt"
	"log/slog"
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
// for concurrent use.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Options are the settings of a [Cache]. The zero value of each field is its
// documented default.
type Options struct {
	// TTL is how long a value is served without asking the service again,
	// counted from the start of the call that read it. Default 5 minutes.
	TTL time.Duration

	// StaleWait is how long a read of a value beyond its TTL waits for a newer
	// one, before it returns what is held while the call goes on. Default 1
	// second. Negative: not at all.
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

	// FetchTimeout bounds one read, the client's own attempts included. No
	// reader's context does: readers share the call. Default 10 seconds.
	FetchTimeout time.Duration

	// Logger gets reads at Debug and failures at Warn, never a value; that no
	// version carries a label other than AWSCURRENT is no failure. Default:
	// silent.
	Logger *slog.Logger
}

// withDefaults returns a copy with every zero field filled in.
func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.TTL < 0 {
		return opts, fmt.Errorf("cache: Options.TTL is %v; leave it zero for the default", opts.TTL)
	}
	if opts.FetchTimeout < 0 {
		return opts, fmt.Errorf("cache: Options.FetchTimeout is %v; leave it zero for the default", opts.FetchTimeout)
	}
	if opts.TTL == 0 {
		opts.TTL = 5 * time.Minute
	}
	if opts.StaleWait == 0 {
		opts.StaleWait = time.Second
	}
	if opts.MaxStale == 0 {
		opts.MaxStale = 24 * time.Hour
	}
	if opts.MinRefresh == 0 {
		opts.MinRefresh = time.Second
	}
	if opts.FetchTimeout == 0 {
		opts.FetchTimeout = 10 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return opts, nil
}
