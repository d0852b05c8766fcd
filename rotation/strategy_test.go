package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
)

const superName = "prod/super"

// server is one with users who may do things, in memory. Its superuser acts, for
// alternating users or for one.
type server struct {
	life        *killtest.Life // may be nil
	alternating bool

	mu     sync.Mutex // protects following
	users  map[string]*account
	sets   int
	denied int // logins
}

type account struct {
	password string // "": nobody logs in
	grants   map[string]bool
}

func newServer(alternating bool) *server {
	return &server{alternating: alternating, users: map[string]*account{
		"app":   {"first", map[string]bool{"read": true, "write": true}},
		"super": {"master", nil},
	}}
}

func (s *server) Strategy(current *rotation.Value) (rotation.Strategy, error) {
	var v struct{ Masterarn string }
	if err := current.Decode(&v); err != nil {
		return rotation.Strategy{}, err
	}
	if v.Masterarn == "none" {
		return rotation.Strategy{}, rotation.Problem(rotation.ReasonSuperuser, "name one", errors.New("no superuser"))
	}
	return rotation.Strategy{Superuser: superName, Alternating: s.alternating}, nil
}

func (s *server) turn(user string) string {
	if base, ok := strings.CutSuffix(user, "_clone"); ok || !s.alternating {
		return base
	}
	return user + "_clone"
}

func (s *server) Next(current, password *rotation.Value) (*rotation.Value, error) {
	var l login
	if err := current.Decode(&l); err != nil {
		return nil, err
	}
	next, err := current.With("password", password.Text())
	if err != nil {
		return nil, err
	}
	return next.With("username", s.turn(l.Username))
}

func (s *server) Check(current, pending *rotation.Value) error {
	var c, p login
	if err := errors.Join(current.Decode(&c), pending.Decode(&p)); err != nil {
		return err
	}
	if want := s.turn(c.Username); p.Username != want {
		return fmt.Errorf("another user: %s, not %s", p.Username, want)
	}
	return rotation.Unchanged(current, pending, "username", "password")
}

func (s *server) Test(_ context.Context, v *rotation.Value) error {
	if err := s.life.Tick(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.loginLocked(v)
	return err
}

func (s *server) loginLocked(v *rotation.Value) (string, error) {
	var l login
	if err := v.Decode(&l); err != nil {
		return "", err
	}
	if u := s.users[l.Username]; u == nil || u.password == "" || u.password != l.Password {
		s.denied++
		return "", rotation.Refused(fmt.Errorf("%s: wrong password", l.Username))
	}
	return l.Username, nil
}

// Set goes through statements, each of which is a moment to die before and after.
func (s *server) Set(_ context.Context, c rotation.Change) error {
	var cur, next login
	if err := errors.Join(c.Current.Decode(&cur), c.Pending.Decode(&next)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets++
	if who, err := s.loginLocked(c.As); err != nil {
		return err
	} else if who != "super" {
		return errors.New("not the superuser")
	}
	statements := []func(){func() {
		if s.users[next.Username] == nil {
			s.users[next.Username] = &account{grants: map[string]bool{}}
		}
	}, func() { s.users[next.Username].password = next.Password }}
	if s.alternating {
		for grant := range s.users[cur.Username].grants {
			statements = append(statements, func() { s.users[next.Username].grants[grant] = true })
		}
	}
	for _, statement := range statements {
		if err := s.life.Tick(); err != nil {
			return err
		}
		statement()
	}
	return s.life.Tick()
}

func (s *server) Verify(_ context.Context, c rotation.Change) error {
	var cur, next login
	if err := errors.Join(c.Current.Decode(&cur), c.Pending.Decode(&next)); err != nil {
		return err
	}
	if err := s.life.Tick(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if who, err := s.loginLocked(c.As); err != nil || who != "super" {
		return err
	}
	if !maps.Equal(s.users[cur.Username].grants, s.users[next.Username].grants) {
		return rotation.Problem(rotation.ReasonPrivileges, "grant them", errors.New("the users may not do the same"))
	}
	return nil
}

// do changes something by hand.
func (s *server) do(f func(users map[string]*account)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.users)
}

// logsIn reports whether a label's value logs in, and may do what app may.
func (s *server) logsIn(srv *service, stage string) bool {
	text := srv.text(stage)
	if text == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	who, err := s.loginLocked(rotation.NewValue(text))
	return err == nil && maps.Equal(s.users[who].grants, s.users["app"].grants)
}

func newServers(t *testing.T, alternating bool) (*service, *server, *rotation.Handler) {
	t.Helper()
	srv, s := newService(t), newServer(alternating)
	srv.Put(superName, `{"username":"super","password":"master"}`)
	return srv, s, rotation.NewHandler(srv.client, s, &rotation.Options{ReplicaWait: -1})
}

// Killed before and after each call and statement, and repeated, a rotation by a
// superuser converges; alternating users go on working all the while.
func TestSuperuserKilled(t *testing.T) {
	for _, alternating := range []bool{false, true} {
		t.Run(fmt.Sprintf("alternating=%t", alternating), func(t *testing.T) {
			srv, s, _ := newServers(t, alternating)
			s.life = &killtest.Life{}
			h := rotation.NewHandler(killtest.Client{API: srv.client, Life: s.life}, s, nil)
			for n := 1; ; n++ {
				for range 2 { // each user
					token := srv.begin(t)
					s.life.Begin(n)
					err := run(t.Context(), h, token, steps...)
					over := s.life.Over()
					s.life.Begin(0)
					if !over {
						if err != nil || n < 40 {
							t.Fatalf("not killed at %d: %v", n, err)
						}
						return
					}
					current, pending := s.logsIn(srv, "AWSCURRENT"), s.logsIn(srv, "AWSPENDING")
					if !current && (alternating || !pending) {
						t.Fatalf("killed at %d: AWSCURRENT logs in: %t, AWSPENDING: %t", n, current, pending)
					}
					if err := run(t.Context(), h, token, steps...); err != nil {
						t.Fatalf("killed at %d: %v", n, err)
					}
					if !s.logsIn(srv, "AWSCURRENT") {
						t.Fatalf("killed at %d: AWSCURRENT does not log in in the end", n)
					}
				}
			}
		})
	}
}

// That AWSPENDING logs in does not mean that all is done.
func TestSetConverges(t *testing.T) {
	srv, s, h := newServers(t, true)
	token := srv.begin(t)
	if err := run(t.Context(), h, token, steps[:2]...); err != nil {
		t.Fatal(err)
	}
	s.do(func(users map[string]*account) {
		users["app"].grants["new"] = true
		users["app_clone"].grants["old"] = true
	})
	err := run(t.Context(), h, token, steps[2:]...)
	if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonPrivileges || e.Step != steps[2] || e.Remedy != "grant them" {
		t.Errorf("testSecret = %v, want the target's own problem", err)
	}
	if err := run(t.Context(), h, token, steps[3]); err == nil {
		t.Error("finishSecret has promoted users that may not do the same")
	}
	s.do(func(users map[string]*account) { delete(users["app_clone"].grants, "old") })
	if err := run(t.Context(), h, token, steps...); err != nil {
		t.Fatal(err)
	}
	if !s.logsIn(srv, "AWSCURRENT") || !s.logsIn(srv, "AWSPREVIOUS") || s.denied > 0 {
		t.Errorf("not both log in, or %d logins were refused on the way", s.denied)
	}
}

// The superuser's secret has its own labels, and may be in the midst of a rotation.
func TestSuperuserPending(t *testing.T) {
	for _, alternating := range []bool{false, true} {
		srv, s, h := newServers(t, alternating)
		if _, err := srv.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: aws.String(superName), VersionStages: []string{"AWSPENDING"}, SecretString: aws.String(`{"username":"super","password":"the next"}`),
		}); err != nil {
			t.Fatal(err)
		}
		s.do(func(users map[string]*account) { users["super"].password = "the next" })
		if err := run(t.Context(), h, srv.begin(t), steps...); err != nil {
			t.Fatal(err)
		}
		if !s.logsIn(srv, "AWSCURRENT") {
			t.Error("AWSCURRENT does not log in")
		}
	}
}

// A secret that a service manages is not rotated, but its user may act.
func TestSuperuserManaged(t *testing.T) {
	srv, s, _ := newServers(t, true)
	h := rotation.NewHandler(onlyManaged{srv.client, superName}, s, nil)
	if err := run(t.Context(), h, srv.begin(t), steps...); err != nil {
		t.Error(err)
	}
}

// onlyManaged says that one secret belongs to a service.
type onlyManaged struct {
	rotation.API

	name string
}

func (m onlyManaged) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	if aws.ToString(in.SecretId) == m.name {
		return managed{m.API}.DescribeSecret(ctx, in, opts...)
	}
	return m.API.DescribeSecret(ctx, in, opts...)
}

// The superuser gets nobody out of a lock-out whose password the secret has never
// had; whom it had is helped by the older version.
func TestSuperuserRescue(t *testing.T) {
	srv, s, h := newServers(t, false)
	srv.Put(secretName, strings.Replace(firstValue, "first", "never arrived", 1))
	if err := run(t.Context(), h, srv.begin(t), steps...); err != nil {
		t.Fatal(err)
	}
	if !s.logsIn(srv, "AWSCURRENT") {
		t.Error("AWSCURRENT does not log in")
	}
	s.do(func(users map[string]*account) { users["app"].password = "changed by hand" })
	err := run(t.Context(), h, srv.begin(t), steps...)
	if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonLockedOut {
		t.Errorf("run = %v, want locked out", err)
	}
	s.do(func(users map[string]*account) {
		if users["app"].password != "changed by hand" {
			t.Error("the superuser has changed the password of somebody who has not logged in")
		}
	})
}

// What is wrong with a superuser, and with users that alternate.
func TestStrategyRefusals(t *testing.T) {
	for _, test := range []struct {
		name        string
		alternating bool
		prepare     func(srv *service, s *server)
		reason      rotation.Reason
		want        []string
	}{
		{"superuser refused", true, func(_ *service, s *server) {
			s.do(func(users map[string]*account) { users["super"].password = "another" })
		}, rotation.ReasonSuperuser, []string{"prod/super", "does not log in", "AWSCURRENT (version", "put the superuser's password"}},
		{"no superuser's secret", false, func(srv *service, _ *server) {
			if _, err := srv.client.DeleteSecret(srv.t.Context(), &secretsmanager.DeleteSecretInput{
				SecretId: aws.String(superName), ForceDeleteWithoutRecovery: aws.Bool(true),
			}); err != nil {
				srv.t.Fatal(err)
			}
		}, rotation.ReasonSuperuser, []string{"cannot be read", "secretsmanager:GetSecretValue", "kms:Decrypt"}},
		{"none named", true, func(srv *service, _ *server) {
			srv.Put(secretName, strings.Replace(firstValue, `"id"`, `"masterarn":"none","id"`, 1))
		}, rotation.ReasonSuperuser, []string{"does not say how it is rotated", "no superuser; name one"}},
		{"AWSCURRENT does not log in", true, func(_ *service, s *server) {
			s.do(func(users map[string]*account) { users["app"].password = "another" })
		}, rotation.ReasonLockedOut, []string{"nothing was changed", "put the password that the user has into AWSCURRENT"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv, s, h := newServers(t, test.alternating)
			test.prepare(srv, s)
			err := run(t.Context(), h, srv.begin(t), steps...)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Step != steps[1] || e.Reason != test.reason {
				t.Fatalf("run = %v, want %q of setSecret", err, test.reason)
			}
			for _, want := range append(test.want, e.Remedy) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if s.users["app_clone"] != nil {
				t.Error("something was changed")
			}
		})
	}
}

// Losing the connection half-way is no success because AWSPENDING logs in: not if
// there may be more to do than a password, and nobody to compare it.
func TestSetCutOff(t *testing.T) {
	for _, compared := range []bool{true, false} {
		srv, s, _ := newServers(t, true)
		s.life = &killtest.Life{}
		target := rotation.Target(&cutOff{s})
		if !compared {
			target = struct { // which hides Verify
				rotation.Target
				rotation.Strategist
			}{&cutOff{s}, s}
		}
		h := rotation.NewHandler(srv.client, target, nil)
		token := srv.begin(t)
		err := run(t.Context(), h, token, steps[:2]...)
		if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonUnreachable {
			t.Errorf("compared=%t: setSecret = %v, want no verdict", compared, err)
		}
	}
}

// cutOff loses the connection after the password, and before the last grant.
type cutOff struct{ *server }

func (c *cutOff) Set(ctx context.Context, change rotation.Change) error {
	if err := c.server.Set(ctx, change); err != nil {
		return err
	}
	c.do(func(users map[string]*account) { delete(users["app_clone"].grants, "write") })
	return errors.New("connection lost")
}
