package smtest

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

// Options are the settings of a [Server]. Nil, and each zero field, stand for
// the default.
type Options struct {
	// Region is the AWS Region of the secrets that the Server's own methods name
	// without an ARN, and of requests that do not say theirs in a signature;
	// us-east-1 by default. The server has every Region.
	Region string

	// Account is the AWS account of these secrets, and of requests signed with an
	// access key that [Server.AddCaller] has not registered; 123456789012 by default.
	Account string

	// VersionQuota is how many versions a secret may have, those without a label
	// included: a call that would make one more fails with LimitExceededException. The
	// service has a quota of about 100, and room again when versions without a label
	// are more than 24 hours old, which it then forgets. Zero: no quota.
	VersionQuota int

	// NameLinger is how long the name of a secret that was deleted with
	// ForceDeleteWithoutRecovery cannot be used again; with the service that takes
	// seconds. Zero: no time.
	NameLinger time.Duration

	// Rotation are the settings of rotations.
	Rotation RotationOptions

	// ServiceQuotas throttles the requests of an account that are over the service's
	// quotas, of which GetSecretValue and DescribeSecret have 10,000 a second together
	// in each Region and most other operations 50. A [Fault] with a Rate sets any
	// other.
	ServiceQuotas bool

	// Seed is what the calls are drawn from that a [Fault] with a Probability applies
	// to.
	Seed uint64

	// Logger gets every call at debug level, and each rotation step that fails
	// at warning level. It never gets a secret's value. Nil: silent.
	Logger *slog.Logger

	// Journal gets every change of the server's state before the call that made it is
	// answered, whoever made it, and before any other call tells of it. With what
	// [Server.Save] wrote, and the journal after it, [Server.Load] brings the state
	// back; changes that were saved already may be in both. THE VALUES ARE IN IT IN
	// PLAIN TEXT.
	//
	// Write is called with whole lines, by one goroutine at a time and with no lock
	// held. If it fails it is not called again, and calls that change something are
	// answered with InternalServiceError. Nil: no journal.
	Journal io.Writer
}

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Region == "" {
		out.Region = "us-east-1"
	}
	if out.Account == "" {
		out.Account = "123456789012"
	}
	out.Rotation = out.Rotation.withDefaults()
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out
}

// A Server is a Secrets Manager with its own secrets. [New] makes one; the zero
// Server is not usable. All methods may be called concurrently.
type Server struct {
	opts Options

	anybody *caller // who makes the requests of unknown access keys

	mu      sync.Mutex // protects following, and everything that hangs on stores
	closed  bool
	stores  map[place]*store
	callers map[string]*caller  // by access key id
	keys    map[string]*key     // by ARN and by the ARN of the alias
	funcs   map[string]Function // by ARN
	runs    map[*rotation]struct{}
	faults  []*injected
	log     callLog
	journal *journal // nil if there is none
	meter   meter
	buckets buckets // of ServiceQuotas

	injections uint64 // faults so far
	epoch      uint64 // what stale reads see is of one epoch: since there is a fault that makes them so

	timed  map[*secret]struct{} // those where something may become due
	wake   time.Time            // when the latest timer goes off
	timers uint64               // how many there were
}

// New returns an empty server. It opens no socket and starts no goroutine. The
// caller must Close it if secrets are rotated: a rotation schedule keeps timers
// running until then, in a synctest bubble as long as its main goroutine.
func New(opts *Options) *Server {
	o := opts.withDefaults()
	s := &Server{
		opts:    o,
		anybody: defaultCaller(o.Account),
		stores:  make(map[place]*store),
		callers: make(map[string]*caller),
		keys:    make(map[string]*key),
		funcs:   make(map[string]Function),
		runs:    make(map[*rotation]struct{}),
		timed:   make(map[*secret]struct{}),
	}
	s.journal = newJournal(s, o.Journal)
	return s
}

// Put makes value the AWSCURRENT version of the secret, which is created if it
// does not exist, and returns the new version's id. It is not in the call log
// and no [Fault] applies to it, nor a policy. name is that of a secret in the
// server's own account and Region, or the ARN of an existing secret of any. A secret
// with a name such as rds!db-1234 belongs to the service before the exclamation mark,
// here rds: the API refuses to change it, Put and [Server.Rotate] are the service.
//
// It is meant for setting up a test that cannot go on without it, so it returns
// no error: it panics, with the service's error text and never with the value,
// if the name is not valid, the value is empty or longer than 65,536 bytes, the
// secret is marked for deletion or a replica, a quota is used up or the server is
// closed.
func (s *Server) Put(name, value string) string {
	s.mu.Lock()
	defer s.release()
	id, err := s.putLocked(name, value)
	if err != nil {
		panic("smtest: put " + quote(name) + ": " + err.Error())
	}
	return id
}

func (s *Server) putLocked(name, value string) (string, *Error) {
	if s.closed {
		return "", errClosed
	}
	val, err := newPayload(&value, nil)
	if err != nil {
		return "", err
	}
	now := timestamp()
	sec, err := s.findLocked(name, now)
	switch {
	case err == nil:
		if err := sec.checkNotDeleted(); err != nil {
			return "", err
		}
		if err := sec.checkPrimary(); err != nil {
			return "", err
		}
		s.rememberLocked(sec, now)
	case err.Code == codeNotFound && !isARN(name):
		if err := checkName(name); err != nil {
			return "", err
		}
		sec = s.homeLocked().newSecret(name, now)
		sec.own(owningService(name))
		sec.store.enter(sec)
		s.rememberNewLocked(sec, now)
	default:
		return "", err
	}
	v, err := sec.put(newID(), val, []string{labelCurrent}, now)
	if err != nil {
		return "", err
	}
	return v.id, nil
}

// Close ends the server: it cancels the context of every running rotation,
// waits until their functions have returned and the journal is written, and makes
// every later request fail with the error code ServerClosed, which the SDK does not
// retry. It may be called more than once and concurrently; each call waits. A rotation
// function must not call it.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	runs := make([]*rotation, 0, len(s.runs))
	for r := range s.runs {
		runs = append(runs, r)
	}
	s.mu.Unlock()
	for _, r := range runs {
		r.cancel()
	}
	for _, r := range runs {
		<-r.done
	}
	s.mu.Lock()
	s.release()
}

// timestamp is the present as the service keeps it: in milliseconds.
func timestamp() time.Time {
	return time.Now().UTC().Truncate(time.Millisecond)
}
