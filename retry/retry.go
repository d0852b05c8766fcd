package retry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/cache"
)

const (
	// maxLogins bounds the logins of one Walk. Servers lock accounts: a fourth
	// attempt costs more than it can bring.
	maxLogins = 3

	// provenFor is how long an acceptance lets further logins with the same
	// version go ahead without one leading, and how long waiters stay behind a
	// leader from whom nothing is heard.
	provenFor = time.Second

	// quarantine is how long a refused version stays untried if nothing else
	// ends it.
	quarantine = 30 * time.Second

	// maxStreak is how many refusals in a row a target may make that has just
	// accepted two versions, before both are left alone.
	maxStreak = 5 * maxLogins

	// labelAge is how old a read of AWSPENDING or AWSPREVIOUS may be, whatever
	// it said. It bounds the calls of a pool that cannot log in at all.
	labelAge = time.Second
)

// Options are the settings of a [Retrier]. The zero value of each field is its
// documented default.
type Options struct {
	// Target names the endpoint in errors and logs. Default: "the target".
	Target string

	// Usable reports whether a version is meant for this target at all, for
	// secrets that name their own host. Default: every version is.
	Usable func(*cache.Secret) bool

	// Patience is how long [Retrier.Do] waits for the labels to move, when
	// every version was refused and a rotation may be under way. Default 60
	// seconds. Negative: not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight, for servers that lock
	// an account after a few refusals: with the password changed under them,
	// all of those in flight are refused. Zero or less: no limit. A fleet of
	// programs under such a lock needs alternating users: each program bounds
	// its own logins only.
	MaxConcurrentLogins int

	// Logger gets refusals and waits at Warn, never a value. Default: silent.
	Logger *slog.Logger
}

// A Retrier stands between one secret and one target, and remembers which
// versions of the secret that target accepted and which it refused. It is safe
// for concurrent use; share one among all who log in to the target. It has no
// goroutine and needs no closing.
type Retrier struct {
	cache       *cache.Cache
	secretID    string
	handle      *cache.Handle
	isAuthError func(error) bool
	opts        Options       // complete, never changed
	slots       chan struct{} // one element per login in flight; nil: no limit

	mu     sync.Mutex // protects following; never held during a login, a read or a wait
	target standings
	lead   *lead         // the login that the others wait for, or nil
	width  int           // how many went ahead beside the latest lead; 0 after a verdict
	woken  chan struct{} // closed at the next acceptance; nil: nobody waits for one
}

// New returns a Retrier for a secret of c. isAuthError reports whether an error
// of a login is the target refusing the credential: only such an error makes
// the Retrier try another version. New does no I/O; a nil opts means all
// defaults. It panics if c or isAuthError is nil.
func New(c *cache.Cache, secretID string, isAuthError func(error) bool, opts *Options) *Retrier {
	if c == nil || isAuthError == nil {
		panic("retry: New needs a cache and a function that tells refusals")
	}
	r := &Retrier{
		cache:       c,
		secretID:    secretID,
		handle:      c.Handle(secretID),
		isAuthError: isAuthError,
	}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Target == "" {
		r.opts.Target = "the target"
	}
	if r.opts.Usable == nil {
		r.opts.Usable = func(*cache.Secret) bool { return true }
	}
	if r.opts.Patience == 0 {
		r.opts.Patience = time.Minute
	}
	if r.opts.MaxConcurrentLogins > 0 {
		r.slots = make(chan struct{}, r.opts.MaxConcurrentLogins)
	}
	if r.opts.Logger == nil {
		r.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return r
}

// Do calls login with one version of the secret after the other until one is
// accepted, at most three times. It returns nil once login has; the error of
// login, unchanged, if that is no refusal; an [*Error] if all versions were
// refused; and the cache's own error if the secret cannot be read.
//
// login must be one attempt: a retry inside it would count as one and hit the
// target as many. It gets ctx as it is. Its errors are passed on as they are, so
// what they quote shows.
//
// Do may wait: for a read of the secret, for the verdict on another caller's
// login, and, if every version was refused while a rotation may be under way,
// up to Options.Patience for the end of the rotation. It never waits longer
// than ctx.
func (r *Retrier) Do(ctx context.Context, login func(context.Context, *cache.Secret) error) error {
	w := r.Walk()
	for {
		s, err := w.Next(ctx)
		if err != nil {
			return err
		}
		refused, err := w.attempt(ctx, s, login)
		switch {
		case err == nil:
			w.Accepted()
			return nil
		case refused:
			w.Refused(ctx, err)
		default:
			w.NoVerdict(ctx)
			return err
		}
	}
}

// attempt calls login, and lets the others go on should it panic.
func (w *Walk) attempt(ctx context.Context, s *cache.Secret, login func(context.Context, *cache.Secret) error) (refused bool, err error) {
	ended := false
	defer func() {
		if !ended {
			w.NoVerdict(ctx)
		}
	}()
	err = login(ctx, s)
	refused = err != nil && w.r.isAuthError(err)
	ended = true
	return refused, err
}
