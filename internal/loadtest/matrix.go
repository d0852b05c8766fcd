package loadtest

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// Size is how many connections a pool of the matrix may have, and how many workers, and
// Lifetime how long a connection may be used. Idle is how many connections may wait: of
// those whose time is up, which fill a pool of database/sql's, it gets rid one by one.
const (
	Size     = 32
	Idle     = Size / 4
	Lifetime = 100 * time.Millisecond

	pace = 2 * time.Second // of each worker
)

// A Server is a database server of the tests' own.
type Server interface {
	CreateUser(ctx context.Context, name, password string) error
	SetPassword(ctx context.Context, name, password string) error
	FailedLogins(user string) (int, error)
}

// A Pool is a way to have connections. Open opens a pool of [Size], whose connections
// live for [Lifetime], with tr in its options. The query must keep its connection for a
// moment.
type Pool struct {
	Name string
	Open func(t *testing.T, c *cache.Cache, tr *Trace) (query func(context.Context) error, done func())
}

// A Matrix is all kinds of rotations by all kinds of pools on one server.
type Matrix struct {
	Server   Server
	Document func(user, password string) string // a secret
	Pools    []Pool
	AtOnce   int // how many pools there are at a time
}

// A kind is one of rotations.
type kind struct {
	window    time.Duration // between the change of the password and that of the label
	rotations int
	users     int  // 1, or 2 that take turns
	denied    bool // AWSPENDING may not be read

	// hasty rotations follow each other so closely that the pool has not heard of
	// one when the next begins.
	hasty bool
}

func (k kind) String() string {
	text := fmt.Sprint("window ", k.window)
	if k.users > 1 {
		text += ", alternating users"
	}
	if k.denied {
		text += ", AWSPENDING denied"
	}
	if k.hasty {
		text += ", hasty"
	}
	return text
}

// whole has the matrix make all rotations of each kind: `make matrix`. Else it makes a
// few, as make test is to be done in minutes.
var whole = flag.Bool("matrix", false, "all rotations of the matrix, which take minutes")

const few = 3

// kinds returns all kinds, those first that take longest.
func kinds() []kind {
	all := everyKind()
	for i := range all {
		if !*whole {
			all[i].rotations = min(all[i].rotations, few)
			all[i].window = min(all[i].window, 300*time.Millisecond)
		}
	}
	return all
}

func everyKind() []kind {
	var all []kind
	for _, users := range []int{1, 2} {
		for _, denied := range []bool{true, false} {
			all = append(all,
				kind{window: 0, rotations: 50, users: users, denied: denied, hasty: users > 1},
				kind{window: 3 * time.Second, rotations: 5, users: users, denied: denied},
				kind{window: 300 * time.Millisecond, rotations: 20, users: users, denied: denied})
		}
	}
	return append(all, kind{rotations: 50, users: 1, hasty: true})
}

// hears reports whether the pool hears of a rotation, by the cache's TTL, before the
// user that it is takes part in one again.
func (k kind) hears() bool { return k.users > 1 && !k.hasty }

// waits reports whether the pool waits for the end of rotations.
func (k kind) waits() bool { return k.users == 1 && k.denied }

// more returns how many failed logins a change may cost beside those in flight.
func (k kind) more() int {
	switch {
	case k.waits():
		return 2 // AWSPREVIOUS is tried in the place of what cannot be seen
	}
	return 1
}

// Run runs the matrix. No query fails, and no more logins than there is a reason for.
func (m Matrix) Run(t *testing.T) {
	t.Helper()
	// Of parallel subtests there would be as many at a time as there are processors;
	// these wait most of the time.
	slots := make(chan struct{}, m.AtOnce)
	var runs sync.WaitGroup
	defer runs.Wait()
	for _, k := range kinds() {
		for _, pool := range m.Pools {
			slots <- struct{}{}
			runs.Go(func() {
				defer func() { <-slots }()
				t.Run(pool.Name+", "+k.String(), func(t *testing.T) {
					r := &run{Matrix: m, kind: k, trace: new(Trace)}
					r.rotate(t, pool)
					r.check(t)
				})
			})
		}
	}
}

// A run is one kind of rotations with one pool.
type run struct {
	Matrix
	kind
	names    []string
	versions []string // of each user, the latest
	secret   *smtest.Server
	cache    *cache.Cache
	trace    *Trace
	load     *Load
}

// rotate goes through the rotations.
func (r *run) rotate(t *testing.T, pool Pool) {
	t.Helper()
	password := r.createUsers(t)
	opts := &cache.Options{}
	if r.hears() {
		opts.TTL = 250 * time.Millisecond
	}
	r.secret, r.cache = NewSecret(t, r.Document(r.names[0], password), opts)
	if r.denied {
		DenyPending(r.secret)
	}
	query, done := pool.Open(t, r.cache, r.trace)
	defer done()
	r.load = Start(t, Size, pace, query)
	defer r.load.Stop()
	r.load.Live(t, Size)
	r.versions[0] = r.current()
	for i := range r.rotations {
		r.turn(t, (i+1)%r.users)
	}
}

// turn is one rotation, which gives the user another password.
func (r *run) turn(t *testing.T, user int) {
	t.Helper()
	password := rand.Text()
	version := Pend(t, r.secret, r.Document(r.names[user], password))
	r.trace.Change(r.versions[user])
	r.versions[user] = version
	polls := r.trace.Stats.Polls.Load()
	r.load.Rush()
	if err := r.Server.SetPassword(t.Context(), r.names[user], password); err != nil {
		t.Fatal(err)
	}
	wait(t, r.window)
	if r.waits() && r.window > 0 {
		// On a busy machine the window may be over before the first who is refused has
		// tried what there is: it lasts until somebody waits for its end.
		Eventually(t, "somebody to wait for the end of the rotation", func() bool { return r.trace.Stats.Polls.Load() > polls })
	}
	Promote(t, r.secret, version)
	if r.users == 1 {
		Eventually(t, "a login with the new password", func() bool { return r.trace.Proven() == version })
	}
	// Those whom it has caught come through before the next rotation, which finds no
	// connection that may still be used.
	r.load.Settle(t)
	wait(t, Lifetime)
	if !r.hasty {
		Eventually(t, "the cache to hear of the rotation", func() bool { return r.current() == version })
		Eventually(t, "the logins that began before", func() bool { return r.trace.InFlight() == 0 })
	}
}

// current returns the version that the cache holds.
func (r *run) current() string {
	if s, ok := r.cache.Handle(SecretID).Peek(); ok {
		return s.VersionID()
	}
	return ""
}

// check checks what the rotations have cost in logins. The load has stopped.
func (r *run) check(t *testing.T) {
	t.Helper()
	stats := &r.trace.Stats
	refused, most := r.trace.Check(t, r.more())
	failed := 0
	for _, name := range r.names {
		n, err := r.Server.FailedLogins(name)
		if err != nil {
			t.Fatal(err)
		}
		failed += n
	}
	if failed != refused {
		t.Errorf("the server counts %d failed logins, and the pool %d", failed, refused)
	}
	if r.hears() && failed != 0 {
		t.Errorf("%d failed logins, and each password that changed was of a user that nobody was", failed)
	}
	if !r.hears() && failed == 0 {
		t.Error("no login was refused: the test has proved nothing")
	}
	polls := stats.Polls.Load()
	if !r.waits() && polls != 0 {
		t.Errorf("%d callers have waited for the end of a rotation, whose version they may read", polls)
	}
	if n := int(stats.Accepted.Load()); n < r.rotations*Size/2 {
		t.Errorf("%d logins in %d rotations: the connections lived on", n, r.rotations)
	}
	t.Logf("%d queries, the longest %v; %d logins, %d failed of at most %d; %d waits, %d polls",
		r.load.Queries(), r.load.Longest(), stats.Logins.Load(), refused, most, stats.Waits.Load(), polls)
}

// createUsers creates the users, with the same password.
func (r *run) createUsers(t *testing.T) (password string) {
	t.Helper()
	password = rand.Text()
	r.versions = make([]string, r.users)
	for range r.users {
		name := "u" + strings.ToLower(rand.Text()[:10])
		if err := r.Server.CreateUser(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		r.names = append(r.names, name)
	}
	return password
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
