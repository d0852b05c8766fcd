package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
	"github.com/keyturn/keyturn/smtest"
)

// A function is the rotation function of one secret. In AWS it is a Lambda
// function whose main is
//
//	lambda.Start(rotation.NewHandler(client, postgres.NewTarget(nil), nil).Handle)
//
// Here it has smtest for a Lambda service, dawdles before finishSecret, and
// tells what it is doing. It is the Target of its own handler to see when the
// password is changed.
type function struct {
	*postgres.Target // not the interface, which has but a part of its methods

	arn     string
	handler *rotation.Handler
	window  time.Duration

	mu      sync.Mutex  // protects following
	step    string      // "" between rotations
	set     time.Time   // when the server had the new password; zero outside of the window
	opened  bool        // the window was open since the last look
	changes []time.Time // of each rotation: when the change of the password began
	refused int         // logins of the function itself that were refused
	steps   []stretch   // every step, in order
	windows []stretch   // every window, in order
}

func newFunction(sm *smtest.Server, user string, window time.Duration) *function {
	f := &function{
		Target: postgres.NewTarget(nil),
		arn:    "arn:aws:lambda:us-east-1:123456789012:function:rotate-" + user,
		window: window,
	}
	f.handler = rotation.NewHandler(sm.Client(), f, nil)
	sm.AddFunction(f.arn, smtest.Lambda(f.handle))
	return f
}

// handle carries out one of the four steps.
func (f *function) handle(ctx context.Context, e rotation.Event) error {
	if e.Step == "finishSecret" {
		// In AWS this is the time it takes to call the function twice more: a
		// second or more with a cold start, minutes if a step fails and the
		// rotation is repeated later.
		f.enter("wait")
		f.mu.Lock()
		until := f.set.Add(f.window)
		f.mu.Unlock()
		if err := sleep(ctx, time.Until(until)); err != nil {
			return err
		}
	}
	f.enter(e.Step)
	err := f.handler.Handle(ctx, e)
	if e.Step == "finishSecret" && err == nil {
		f.enter("")
		f.mu.Lock()
		f.set = time.Time{}
		f.windows = end(f.windows)
		f.mu.Unlock()
	}
	return err
}

// Set is the moment at which the old password stops to work.
func (f *function) Set(ctx context.Context, c rotation.Change) error {
	f.mu.Lock()
	f.changes = append(f.changes, time.Now())
	f.mu.Unlock()
	err := f.Target.Set(ctx, c)
	if err == nil {
		f.mu.Lock()
		if f.set.IsZero() {
			f.windows = append(f.windows, stretch{from: time.Now()})
		}
		f.set, f.opened = time.Now(), true
		f.mu.Unlock()
	}
	return err
}

// Test is also how a setSecret that is repeated finds out that there is nothing to
// do any more. What is refused then is none of the pool's logins.
func (f *function) Test(ctx context.Context, v *rotation.Value) error {
	err := f.Target.Test(ctx, v)
	if errors.Is(err, rotation.ErrRefused) {
		f.mu.Lock()
		f.refused++
		f.mu.Unlock()
	}
	return err
}

func (f *function) enter(step string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.step = step
	f.steps = end(f.steps)
	if step != "" {
		f.steps = append(f.steps, stretch{name: step, from: time.Now()})
	}
}

// look returns the step, and whether the window is or was open since the last
// look.
func (f *function) look() (step string, window bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	window = f.opened
	f.opened = !f.set.IsZero()
	return f.step, window
}

// past returns when the password was changed, and how many of the function's
// own logins were refused.
func (f *function) past() (changes []time.Time, refused int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(changes, f.changes...), f.refused
}

// history returns every step and every window so far.
func (f *function) history() (steps, windows []stretch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(steps, f.steps...), append(windows, f.windows...)
}

// rotate has both secrets rotated, over and over, at the same moments.
func (d *demo) rotate(ctx context.Context) error {
	client := d.sm.Client()
	if err := sleep(ctx, margin); err != nil {
		return err
	}
	for i := range d.rotations {
		if i > 0 {
			if err := sleep(ctx, d.pause); err != nil {
				return err
			}
		}
		for _, p := range d.pools {
			if err := p.mark(d.pg); err != nil {
				return err
			}
		}
		d.rotation.Store(int64(i + 1))
		for _, p := range d.pools {
			// It answers at once; Secrets Manager calls the function behind it.
			in := &secretsmanager.RotateSecretInput{SecretId: &p.secretID, RotationLambdaARN: &p.function.arn}
			if _, err := client.RotateSecret(ctx, in); err != nil {
				return err
			}
		}
		for _, p := range d.pools {
			if err := d.sm.Wait(ctx, p.secretID); err != nil {
				return err
			}
		}
		d.rotated.Add(1)
	}
	return sleep(ctx, margin)
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
