package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
	"github.com/keyturn/keyturn/rotation/postgres"
	"github.com/keyturn/keyturn/smtest"
)

var steps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}

// A secret is one that is rotated, with its function. In AWS that is a Lambda function
// whose main is
//
//	lambda.Start(rotation.NewHandler(client, postgres.NewTarget(nil), nil).Handle)
//
// Here it also fails where it is told to, and dawdles before finishSecret: so long
// the database and AWSCURRENT do not agree, if there is one user.
type secret struct {
	id       string
	arn      string // of the function
	users    []string
	database *database
	sm       *smtest.Server
	faults   *faultLog
	handler  *rotation.Handler

	mu       sync.Mutex // protects following
	window   time.Duration
	failIn   string // the step in which the rotation fails, once; "": none
	failLate bool   // when the step's work is done, and only its answer is lost
	rotated  int
	failed   int             // rotations that were told to, or met another fault
	changes  map[string]bool // of passwords, by version: each may cost failed logins
	refused  int             // logins of the function itself that were refused
}

func newSecret(sm *smtest.Server, faults *faultLog, db *database, user string, alternating bool, superuser string) *secret {
	s := &secret{
		id: "soak/" + db.name + "/" + user, users: []string{user}, database: db, sm: sm, faults: faults,
		changes: make(map[string]bool),
		arn:     "arn:aws:lambda:us-east-1:123456789012:function:" + db.name + "-" + user,
	}
	if alternating {
		s.users = append(s.users, user+"_clone")
	}
	s.handler = rotation.NewHandler(sm.Client(), s.target(alternating, superuser), nil)
	sm.AddFunction(s.arn, smtest.Lambda(s.handle))
	return s
}

// target returns what the function rotates.
func (s *secret) target(alternating bool, superuser string) rotation.Target {
	if s.database.name == "PostgreSQL" {
		o := &postgres.Options{Superuser: superuser}
		if alternating {
			o.Strategy = postgres.AlternatingUsers
		}
		return pgTarget{postgres.NewTarget(o), s}
	}
	o := &mysql.Options{Superuser: superuser}
	if alternating {
		o.Strategy = mysql.AlternatingUsers
	}
	return myTarget{mysql.NewTarget(o), s}
}

// pgTarget and myTarget count what the rotation does to logins. They embed the type and
// not the interface, which has but a part of its methods.
type pgTarget struct {
	*postgres.Target
	secret *secret
}

// Test logs in.
func (t pgTarget) Test(ctx context.Context, v *rotation.Value) error {
	return t.secret.tested(t.Target.Test(ctx, v))
}

// Set changes the password.
func (t pgTarget) Set(ctx context.Context, c rotation.Change) error {
	t.secret.changed(c.Pending.VersionID())
	return t.Target.Set(ctx, c)
}

type myTarget struct {
	*mysql.Target
	secret *secret
}

// Test logs in.
func (t myTarget) Test(ctx context.Context, v *rotation.Value) error {
	return t.secret.tested(t.Target.Test(ctx, v))
}

// Set changes the password.
func (t myTarget) Set(ctx context.Context, c rotation.Change) error {
	t.secret.changed(c.Pending.VersionID())
	return t.Target.Set(ctx, c)
}

func (s *secret) tested(err error) error {
	if errors.Is(err, rotation.ErrRefused) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused++
	}
	return err
}

// changed says that a version is not what the database has, or that its predecessor will
// not be.
func (s *secret) changed(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes[version] = true
}

var errTold = errors.New("told to fail")

// handle is the function.
func (s *secret) handle(ctx context.Context, e rotation.Event) error {
	s.mu.Lock()
	window, fails, isLate := s.window, s.failIn == e.Step, s.failLate
	if fails {
		s.failIn = ""
	}
	s.mu.Unlock()
	if e.Step == "finishSecret" {
		if err := sleep(ctx, window); err != nil {
			return err
		}
	}
	if fails && !isLate {
		return errTold
	}
	err := s.handler.Handle(ctx, e)
	if fails && err == nil {
		return errTold
	}
	return err
}

// live has the secret rotated, over and over, and edited into rubbish and back, until
// ctx ends. It leaves no rotation incomplete, and no rubbish.
func (s *secret) live(ctx context.Context, r *mrand.Rand) error {
	// What is begun is ended, also when the time is up.
	whole := context.WithoutCancel(ctx)
	for sleep(ctx, span(r, time.Second, 5*time.Second)) == nil {
		window, step, isLate := span(r, 0, 3*time.Second), steps[r.IntN(len(steps))], r.IntN(2) == 0
		pause, edit, n := span(r, 100*time.Millisecond, 2*time.Second), r.IntN(len(edits)), r.IntN(10)
		s.mu.Lock()
		s.window, s.failIn, s.failLate = window, "", isLate
		s.mu.Unlock()
		var err error
		switch {
		case n < 6:
			err = s.rotate(whole, pause)
		case n < 9:
			s.mu.Lock()
			s.failIn = step
			s.mu.Unlock()
			end := s.faults.begin("", rotationFails+kind(step))
			err = s.rotate(whole, pause)
			end()
		default:
			err = s.spoil(whole, edits[edit], span(r, shortest, longest))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.id, err)
		}
	}
	return nil
}

// stuck is how long a rotation may take, over all of its attempts, before it is taken
// for one that will never end.
const stuck = 5 * time.Minute

// rotate rotates, as often as it takes, with a pause after each failure. In AWS that is
// minutes; here it is shorter than what a caller waits for.
func (s *secret) rotate(ctx context.Context, pause time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	client := s.sm.Client()
	before, err := s.current(ctx)
	if err != nil {
		return err
	}
	for {
		in := &secretsmanager.RotateSecretInput{SecretId: &s.id, RotationLambdaARN: &s.arn}
		// It may fail for the service's own reasons, or because it answers that an earlier
		// rotation is repeated now: what counts is what becomes of the labels.
		_, asked := client.RotateSecret(ctx, in)
		ended := s.sm.Wait(ctx, s.id)
		after, err := s.current(ctx)
		if err != nil {
			return fmt.Errorf("a rotation does not end: %w", errors.Join(asked, ended, err))
		}
		if ended == nil && after != before {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rotated++
			return nil
		}
		s.mu.Lock()
		s.failed++
		s.mu.Unlock()
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("a rotation does not end: %w", errors.Join(asked, ended, err))
		}
	}
}

// current returns the version that is AWSCURRENT.
func (s *secret) current(ctx context.Context) (version string, err error) {
	v, err := s.value(ctx)
	if err != nil {
		return "", err
	}
	return *v.VersionId, nil
}

func (s *secret) value(ctx context.Context) (v *secretsmanager.GetSecretValueOutput, err error) {
	client := s.sm.Client()
	err = eventually(ctx, func() error {
		v, err = client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id})
		return err
	})
	return v, err
}

// An edit is what somebody has made of a secret by hand.
type edit struct {
	kind kind
	make func(value string) string
}

var edits = []edit{
	{secretRubbish, func(string) string { return "rubbish" }},
	{secretRubbish, func(value string) string { return value[:len(value)/2] }},
	{secretRubbish, func(string) string { return `{"username": "soak"}` }},
	{secretRubbish, func(string) string { return `{"password": 1, "host": []}` }},
	{secretWrong, func(value string) string {
		fields := make(map[string]any)
		if err := json.Unmarshal([]byte(value), &fields); err != nil {
			panic(err) // it is this program's own
		}
		fields["password"] = rand.Text()
		text, err := json.Marshal(fields)
		if err != nil {
			panic(err)
		}
		return string(text)
	}},
}

// spoil edits the secret, and after a while puts back what was there.
func (s *secret) spoil(ctx context.Context, e edit, d time.Duration) error {
	v, err := s.value(ctx)
	if err != nil {
		return err
	}
	good := *v.SecretString
	end := s.faults.begin("", e.kind)
	defer end()
	bad := s.sm.Put(s.id, e.make(good))
	if e.kind == secretWrong {
		s.changed(bad)
	}
	_ = sleep(ctx, d)
	s.sm.Put(s.id, good)
	return nil
}

// failedLogins returns how many logins of the secret's users the server has refused,
// those of its rotation function left out.
func (s *secret) failedLogins() (int, error) {
	s.mu.Lock()
	failed := -s.refused
	s.mu.Unlock()
	for _, user := range s.users {
		n, err := s.database.FailedLogins(user)
		if err != nil {
			return 0, err
		}
		failed += n
	}
	return failed, nil
}
