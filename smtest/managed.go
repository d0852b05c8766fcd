package smtest

import (
	"context"
	"errors"
	"fmt"
)

// KeepValue returns a Function for secrets that nothing stands behind: its
// rotations succeed, and each makes a new version with the present value, so that
// what the value opens goes on to open.
//
//	srv.AddFunction("*", srv.KeepValue()) // RotateSecret may name any function
//
// It works inside the server: no call of it is logged, and no [Fault] applies.
func (s *Server) KeepValue() Function {
	return s.inside(func(_ context.Context, old string) (string, error) { return old, nil }, nil)
}

// A Manager is an AWS service that manages a secret and rotates it itself, without
// a rotation function, as Amazon RDS does with the password of a master user.
type Manager struct {
	// Service is the OwningService of the secret, such as rds.
	Service string

	// NewValue returns the value to rotate to; it gets the present one.
	NewValue func(ctx context.Context, old string) (string, error)

	// SetValue makes the value the one that counts, in the database for example. It
	// is AWSPENDING then, and AWSCURRENT once SetValue has returned. Nil: there is
	// nothing to do.
	SetValue func(ctx context.Context, value string) error
}

// PutManaged is [Server.Put] for a new secret that a service manages, such as
// rds!db-b5d4.... Users can read it, change its rotation schedule and rotate it now,
// by RotateSecret without a RotationLambdaARN, but not write or delete it. It is
// rotated every seven days, as Amazon RDS has it, unless RotateSecret says
// otherwise. A rotation that fails is tried again as any other.
//
// Besides what Put does it panics if the secret exists, or m lacks Service or
// NewValue.
func (s *Server) PutManaged(name, value string, m Manager) (versionID string) {
	if m.Service == "" || m.NewValue == nil {
		panic("smtest: put " + quote(name) + ": a Manager needs Service and NewValue")
	}
	s.mu.Lock()
	defer s.release()
	now := timestamp()
	if _, err := s.findLocked(name, now); err == nil {
		panic("smtest: put " + quote(name) + ": the secret exists already")
	}
	id, err := s.putLocked(name, value)
	if err != nil {
		panic("smtest: put " + quote(name) + ": " + err.Error())
	}
	sec, _ := s.findLocked(name, now) // It was put just now.
	days := 7
	sec.own(m.Service)
	sec.rotation.manager = s.inside(m.NewValue, m.SetValue)
	sec.rotation.set("", &rotationRules{AutomaticallyAfterDays: &days}, now)
	s.awaitLocked(sec, now)
	return id
}

// inside returns a rotation function that stores what newValue returns, and sets
// it by setValue if that is not nil. It sees the server from within.
func (s *Server) inside(newValue func(context.Context, string) (string, error), setValue func(context.Context, string) error) Function {
	return Lambda(func(ctx context.Context, e rotationEvent) error {
		cur, pending, err := s.valuesOf(e)
		if err != nil {
			return err
		}
		switch e.Step {
		case stepCreate:
			if pending != nil {
				return nil
			}
			value, err := newValue(ctx, cur.asText())
			if err != nil {
				return err
			}
			val, fail := cur.like(value)
			if fail != nil {
				return fail
			}
			return s.fill(e, val)
		case stepSet:
			if setValue == nil {
				return nil
			}
			return setValue(ctx, pending.asText())
		case stepFinish:
			return s.promote(e)
		}
		return nil
	})
}

// valuesOf returns the value of AWSCURRENT and that of the event's version, which
// is nil before createSecret.
func (s *Server) valuesOf(e rotationEvent) (cur, pending *payload, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, fail := s.findLocked(e.SecretID, timestamp())
	if fail != nil {
		return nil, nil, fail
	}
	if sec.versions[e.ClientRequestToken] == nil {
		return nil, nil, fmt.Errorf("version %s is gone", quote(e.ClientRequestToken))
	}
	if sec.current() == nil {
		return nil, nil, errors.New("the secret has no value yet")
	}
	return sec.current().value, sec.versions[e.ClientRequestToken].value, nil
}

// fill is createSecret's PutSecretValue, promote is finishSecret's
// UpdateSecretVersionStage.
func (s *Server) fill(e rotationEvent, val *payload) error {
	return s.change(e, func(sec *secret) *Error {
		_, err := sec.put(e.ClientRequestToken, val, []string{labelPending}, timestamp())
		return err
	})
}

func (s *Server) promote(e rotationEvent) error {
	return s.change(e, func(sec *secret) *Error {
		return sec.moveLabel(labelCurrent, sec.labels[labelCurrent], e.ClientRequestToken)
	})
}

func (s *Server) change(e rotationEvent, do func(*secret) *Error) error {
	s.mu.Lock()
	defer s.release()
	now := timestamp()
	sec, err := s.findLocked(e.SecretID, now)
	if err != nil {
		return err
	}
	s.rememberLocked(sec, now)
	if err := do(sec); err != nil {
		return err
	}
	sec.changed = now
	return nil
}

// asText is the value as a string, whichever it is.
func (p *payload) asText() string {
	if p.text != nil {
		return *p.text
	}
	return string(p.binary)
}

// like makes a value of the kind that p is.
func (p *payload) like(value string) (*payload, *Error) {
	if p.text != nil {
		return newPayload(&value, nil)
	}
	return newPayload(nil, []byte(value))
}
