package retry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/queue"
)

const (
	// maxLogins bounds the logins that a Walk makes before it waits. Servers lock
	// accounts: a fourth attempt costs more than it can bring.
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

	// Broken reports what is wrong with a version that says nothing to log in
	// with: one that was edited by hand, say. As AWSCURRENT it is passed by as if
	// the target had refused it, without a login; if nothing else is accepted, what
	// is wrong with it is the error. Default: none is broken.
	Broken func(*cache.Secret) error

	// Patience is how long [Retrier.Do] waits for the labels to move, when
	// every version was refused and a rotation may be under way: so long a
	// caller without a deadline may wait where a rotation is stuck. Default 60
	// seconds. Negative: not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight, for servers that lock
	// an account after a few refusals: with the password changed under them,
	// all of those in flight are refused. Zero or less: no limit. A fleet of
	// programs under such a lock needs alternating users: each program bounds
	// its own logins only.
	MaxConcurrentLogins int

	// OneServer says that the target is one server. If it is not said, one that has
	// accepted two versions within 30 seconds and then refuses both may be an
	// endpoint over nodes that differ, and is asked up to fifteen times before both
	// are left alone; one server has just had two rotations.
	OneServer bool

	// LockedOut reports whether an error of a login says that the target has
	// locked the user out. Then there is no further login with that user for 30
	// seconds. Default: no error does.
	LockedOut func(error) bool

	// RefusesUser reports whether an error of a login says that the target does
	// not want this user, whatever the password: then only versions with
	// another one are tried, and nothing is held against this version. It is
	// asked before isAuthError. Default: no error does.
	RefusesUser func(error) bool

	// Accepts reports whether an error of a login, which is no refusal, says
	// that the credential was good all the same: the database is missing, say.
	// Default: no error does.
	Accepts func(error) bool

	// User returns the user that a version logs in as. Default: all versions
	// have the same.
	User func(*cache.Secret) string

	// Code returns the code of a target's error, for events. Default: none.
	Code func(error) string

	// OnEvent is called for what happens to the versions of the secret at this
	// target: one call at a time, in order, behind the logins; in serverless
	// mode by the login itself. One that does not keep up misses the oldest of
	// more than a thousand. It must not call [cache.Cache.Close].
	OnEvent func(Event)

	// Stats counts what happens. Default: nothing does.
	Stats *Stats

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
	eager       bool          // for a Transport: the logins are requests, which wait for little
	events      *queue.Queue[Event]

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
	if r.opts.Broken == nil {
		r.opts.Broken = func(*cache.Secret) error { return nil }
	}
	if r.opts.Patience == 0 {
		r.opts.Patience = time.Minute
	}
	if r.opts.MaxConcurrentLogins > 0 {
		r.slots = make(chan struct{}, r.opts.MaxConcurrentLogins)
	}
	if r.opts.LockedOut == nil {
		r.opts.LockedOut = func(error) bool { return false }
	}
	if r.opts.RefusesUser == nil {
		r.opts.RefusesUser = func(error) bool { return false }
	}
	if r.opts.Accepts == nil {
		r.opts.Accepts = func(error) bool { return false }
	}
	if r.opts.User == nil {
		r.opts.User = func(*cache.Secret) string { return "" }
	}
	if r.opts.Stats == nil {
		r.opts.Stats = new(Stats)
	}
	if r.opts.Logger == nil {
		r.opts.Logger = slog.New(slog.DiscardHandler)
	}
	r.target.since, r.target.one = c.Since, r.opts.OneServer
	r.events = queue.New(r.opts.OnEvent, background(c))
	return r
}

// Do calls login with one version of the secret after the other until one is
// accepted: at most three times, and once more each time the labels have moved
// on from what it tried. It returns nil once login has; the error of login, unchanged,
// if that is no refusal; an [*Error] if all versions were refused; and the cache's
// own error if the secret cannot be read.
//
// login must be one attempt: a retry inside it would count as one and hit the
// target as many. It gets ctx as it is. Its errors are passed on as they are, so
// what they quote shows.
//
// Do may wait: for a read of the secret, for the verdict on another caller's
// login, and, if every version was refused while a rotation may be under way,
// up to Options.Patience for the end of the rotation. Where the target has just
// begun to refuse what it had accepted and there is no rotation to be seen, it
// waits up to 3 seconds for one: reads of Secrets Manager may lag behind. It never
// waits longer than ctx.
func (r *Retrier) Do(ctx context.Context, login func(context.Context, *cache.Secret) error) error {
	w := r.Walk()
	for {
		s, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if again, err := w.attempt(ctx, s, login); !again {
			return err
		}
	}
}

// attempt calls login, and lets the others go on should it panic.
func (w *Walk) attempt(ctx context.Context, s *cache.Secret, login func(context.Context, *cache.Secret) error) (again bool, err error) {
	ended := false
	defer func() {
		if !ended {
			w.NoVerdict(ctx)
		}
	}()
	err = login(ctx, s)
	again = w.Done(ctx, err)
	ended = true
	return again, err
}

// refusal reports whether an error of a login is a verdict on its version, or on
// its user.
func (r *Retrier) refusal(err error) bool {
	return r.isAuthError(err) || r.opts.LockedOut(err) || r.opts.RefusesUser(err)
}
