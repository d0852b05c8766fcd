package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

const (
	secretName = "prod/db"
	functionID = "arn:aws:lambda:us-east-1:123456789012:function:rotate"
	firstValue = `{"engine":"postgres", "host":"db", "username":"app", "password":"first", "id":12345678901234567890, "nested":{"b":1,"a":[1.50]}}`
)

var steps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}

// memory is a server with users in memory.
type memory struct {
	life *killtest.Life // may be nil

	mu        sync.Mutex // protects following
	passwords map[string]string
	down      error
	logins    int
	dropped   bool // the next Set takes effect, and its answer is lost
}

type login struct{ Host, Username, Password string }

func newMemory() *memory { return &memory{passwords: map[string]string{"app": "first"}} }

func (m *memory) Next(current, password *rotation.Value) (*rotation.Value, error) {
	return current.With("password", password.Text())
}

func (m *memory) Check(current, pending *rotation.Value) error {
	var c, p login
	if err := errors.Join(current.Decode(&c), pending.Decode(&p)); err != nil {
		return err
	}
	if c.Username != p.Username {
		return fmt.Errorf("another user: %s, not %s", p.Username, c.Username)
	}
	return rotation.Unchanged(current, pending, "password")
}

func (m *memory) Test(_ context.Context, v *rotation.Value) error {
	if err := m.life.Tick(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loginLocked(v)
}

func (m *memory) loginLocked(v *rotation.Value) error {
	if m.down != nil {
		return m.down
	}
	m.logins++
	var l login
	if err := v.Decode(&l); err != nil {
		return err
	}
	if m.passwords[l.Username] != l.Password {
		return rotation.Refused(fmt.Errorf("%s: wrong password", l.Username))
	}
	return nil
}

func (m *memory) Set(_ context.Context, c rotation.Change) error {
	if err := m.life.Tick(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.loginLocked(c.As); err != nil {
		return err
	}
	var l login
	if err := c.Pending.Decode(&l); err != nil {
		return err
	}
	m.passwords[l.Username] = l.Password
	if m.dropped {
		m.dropped = false
		return errors.New("connection lost")
	}
	return m.life.Tick()
}

func (m *memory) set(password string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passwords["app"] = password
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// service is a Secrets Manager with one secret.
type service struct {
	*smtest.Server

	t      *testing.T
	client *secretsmanager.Client
}

func newService(t *testing.T) *service {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put(secretName, firstValue)
	return &service{Server: srv, t: t, client: srv.Client()}
}

// begin starts a rotation that stops before its first step, and returns its
// token: what is left to do is done by calling the handler.
func (s *service) begin(t *testing.T) string {
	t.Helper()
	s.AddFunction(functionID, func(context.Context, []byte) error { return errors.New("not delivered") })
	out, err := s.client.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context(), secretName); err == nil {
		t.Fatal("the rotation that stops before its first step has succeeded")
	}
	return *out.VersionId
}

func event(step, token string) rotation.Event {
	return rotation.Event{Step: step, SecretID: secretName, ClientRequestToken: token}
}

// run calls the steps, up to the first that fails.
func run(ctx context.Context, h *rotation.Handler, token string, steps ...string) error {
	for _, step := range steps {
		if err := h.Handle(ctx, event(step, token)); err != nil {
			return err
		}
	}
	return nil
}

// text returns the value that a label has, "" if there is none.
func (s *service) text(stage string) string {
	s.t.Helper()
	out, err := s.client.GetSecretValue(s.t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(secretName), VersionStage: aws.String(stage),
	})
	if err != nil {
		return ""
	}
	return aws.ToString(out.SecretString)
}

// password returns the password that a label has, "" if there is none.
func (s *service) password(stage string) string {
	s.t.Helper()
	var l login
	if err := rotation.NewValue(s.text(stage)).Decode(&l); err != nil {
		return ""
	}
	return l.Password
}

// stages returns the labels of a version.
func (s *service) stages(version string) []string {
	s.t.Helper()
	out, err := s.client.DescribeSecret(s.t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(secretName)})
	if err != nil {
		s.t.Fatal(err)
	}
	stages := slices.Clone(out.VersionIdsToStages[version])
	slices.Sort(stages)
	return stages
}

// checkRotated checks that the rotation has ended well.
func (s *service) checkRotated(m *memory, token string) {
	s.t.Helper()
	if got := s.stages(token); !slices.Contains(got, "AWSCURRENT") {
		s.t.Errorf("labels of the new version = %q, want AWSCURRENT among them", got)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got, want := s.password("AWSCURRENT"), m.passwords["app"]; got != want {
		s.t.Error("AWSCURRENT is not the password that the target has")
	}
}
