package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

var (
	errRefused = errors.New("password authentication failed")
	errNetwork = errors.New("connection reset by peer")
)

func isRefused(err error) bool { return errors.Is(err, errRefused) }

// A server checks passwords, when a login arrives, and answers a while later.
type server struct {
	latency time.Duration

	mu      sync.Mutex
	accepts []string
	logins  []string // the passwords of all logins, in the order of arrival
	refused int
	flying  int // logins that have no answer yet
	peak    int
}

func newServer(passwords ...string) *server {
	return &server{latency: 10 * time.Millisecond, accepts: passwords}
}

// setPassword changes what the server accepts, and returns how many logins were
// in flight at that instant.
func (s *server) setPassword(passwords ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepts = passwords
	return s.flying
}

func (s *server) login(ctx context.Context, secret *cache.Secret) error {
	s.mu.Lock()
	s.logins = append(s.logins, secret.Text())
	ok := slices.Contains(s.accepts, secret.Text())
	s.flying++
	s.peak = max(s.peak, s.flying)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying--
		if !ok {
			s.refused++
		}
	}()
	select {
	case <-time.After(s.latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	if !ok {
		return errRefused
	}
	return nil
}

// count returns the number of refused logins.
func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// tried returns the passwords of the logins so far, and forgets them.
func (s *server) tried() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	tried := s.logins
	s.logins = nil
	return tried
}

// A world is a secret, a server and a Retrier between them, in a bubble.
type world struct {
	t  *testing.T
	sm *smtest.Server
	c  *cache.Cache
	db *server
	r  *retry.Retrier
}

// bubble runs f in a synctest bubble: prod/db = v1, which the server accepts, and
// API calls take 5 ms.
func bubble(t *testing.T, opts *retry.Options, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sm := smtest.New(nil)
		defer sm.Close()
		sm.Put("prod/db", "v1")
		sm.Inject(smtest.Fault{Delay: 5 * time.Millisecond})
		c, err := cache.New(sm.Client(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, &world{t, sm, c, newServer("v1"), retry.New(c, "prod/db", isRefused, opts)})
	})
}

// do logs in once and wants it to succeed.
func (w *world) do() {
	w.t.Helper()
	if err := w.r.Do(w.t.Context(), w.db.login); err != nil {
		w.t.Errorf("Do: %v", err)
	}
}

// wantTried wants exactly these logins to have arrived since the last time.
func (w *world) wantTried(want ...string) {
	w.t.Helper()
	if got := w.db.tried(); !slices.Equal(got, want) {
		w.t.Errorf("logins with %q, want %q", got, want)
	}
}

// pend stores a value as AWSPENDING and returns its version.
func (w *world) pend(value string) string {
	w.t.Helper()
	out, err := w.sm.Client().PutSecretValue(w.t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: aws.String(value), VersionStages: []string{cache.Pending},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VersionId
}

// version returns the version under a label.
func (w *world) version(stage string) string {
	w.t.Helper()
	out, err := w.sm.Client().GetSecretValue(w.t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String("prod/db"), VersionStage: aws.String(stage),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VersionId
}

// promote moves AWSCURRENT to the version, as finishSecret does, and takes
// AWSPENDING away, as the service does after it.
func (w *world) promote(version string) {
	w.t.Helper()
	w.promoteFrom(w.version(cache.Current), version)
}

// promoteFrom is promote where reads are not to be relied upon.
func (w *world) promoteFrom(current, version string) {
	w.t.Helper()
	w.move(cache.Current, current, version)
	w.unpend(version)
}

// unpend takes AWSPENDING off the version.
func (w *world) unpend(version string) {
	w.t.Helper()
	w.move(cache.Pending, version, "")
}

func (w *world) move(stage, from, to string) {
	w.t.Helper()
	in := &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String("prod/db"), VersionStage: aws.String(stage), RemoveFromVersionId: aws.String(from),
	}
	if to != "" {
		in.MoveToVersionId = aws.String(to)
	}
	if _, err := w.sm.Client().UpdateSecretVersionStage(w.t.Context(), in); err != nil {
		w.t.Fatal(fmt.Errorf("move %s from %s to %q: %w", stage, from, to, err))
	}
}
