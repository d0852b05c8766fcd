package smtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/smtest"
)

func TestRotate(t *testing.T) {
	srv, c := newServer(t)
	first := srv.Put("s", "one")
	second, err := srv.Rotate(t.Context(), "s", "two")
	if err != nil || second == first {
		t.Fatalf("Rotate = %q, %v", second, err)
	}
	wantValue(t, c, "s", "two")
	if got, want := versions(t, c, "s"), first+":AWSPREVIOUS "+second+":AWSCURRENT"; got != want && !swapped(got, want) {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

// swapped reports whether the two versions in got and want differ in order only.
func swapped(got, want string) bool {
	a, b, _ := strings.Cut(want, " ")
	return got == b+" "+a
}

func TestRotateCallsTheFunction(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	if err := rotate(t, c, "x", later); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	r.events = nil
	r.hook = func(_ context.Context, e event) error {
		if e.Step == "setSecret" {
			wantValue(t, c, "s", "one")
		}
		return nil
	}
	id, err := srv.Rotate(t.Context(), "s", "two")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(allFour, "b", id); r.steps() != want {
		t.Errorf("steps = %s, want %s", r.steps(), want)
	}
	wantValue(t, c, "s", "two")
	if strings.Contains(versions(t, c, "s"), pend) {
		t.Errorf("AWSPENDING is left: %s", versions(t, c, "s"))
	}
}

func TestRotateFails(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	errStep := errors.New("database down")
	// A rotation that fails before its version has a value leaves it to Rotate.
	r.hook = func(context.Context, event) error { return errStep }
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); !errors.Is(err, errStep) {
		t.Fatal(err)
	}
	r.hook = func(_ context.Context, e event) error {
		if e.Step == "testSecret" {
			return errStep
		}
		return nil
	}
	_, err := srv.Rotate(t.Context(), "s", "two")
	if got, want := err.Error(), `smtest: rotate "s": testSecret: database down`; got != want || !errors.Is(err, errStep) {
		t.Errorf("Rotate = %v, want %s", err, want)
	}
	if got, ok := errors.AsType[*smtest.RotationError](err); !ok || got.VersionID != ver("b") {
		t.Errorf("Rotate = %v, want a RotationError of version b", err)
	}
	if err := srv.Wait(t.Context(), "s"); !errors.Is(err, errStep) {
		t.Errorf("Wait = %v, want the error of Rotate", err)
	}

	// Another value would throw away what setSecret has already set.
	_, err = srv.Rotate(t.Context(), "s", "three")
	if e, ok := errors.AsType[*smtest.Error](err); !ok || e.Code != "InvalidRequestException" {
		t.Errorf("Rotate to another value = %v, want InvalidRequestException", err)
	}

	r.hook, r.events = nil, nil
	id, err := srv.Rotate(t.Context(), "s", "two")
	if err != nil || id != ver("b") || r.steps() != allFour {
		t.Errorf("Rotate again = %q, %v, steps %s", id, err, r.steps())
	}
	if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
	wantValue(t, c, "s", "two")
}

func TestRotateErrors(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := srv.Rotate(ctx, "s", "two"); !errors.Is(err, context.Canceled) {
		t.Errorf("Rotate with a cancelled context = %v", err)
	}
	for _, tt := range []struct{ id, value, want string }{
		{"none", "secret-value", `smtest: rotate "none": ResourceNotFoundException: Secrets Manager can't find the specified secret.`},
		{"s", "", `smtest: rotate "s": InvalidRequestException: You must provide either SecretString or SecretBinary.`},
		{"s", strings.Repeat("secret-value", 6000), `smtest: rotate "s": ValidationException: 1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to 65536`},
	} {
		if _, err := srv.Rotate(t.Context(), tt.id, tt.value); err == nil || err.Error() != tt.want {
			t.Errorf("Rotate =\n     %v\nwant %s", err, tt.want)
		}
	}
}

// The context of Rotate is that of the function, and its end ends the rotation
// between two steps.
func TestRotateContext(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	var r rotator
	srv.AddFunction(functionARN, smtest.Lambda(func(ctx context.Context, e event) error {
		r.events = append(r.events, e)
		if e.Step == "setSecret" {
			cancel()
		}
		if e.ClientRequestToken != ver("x") && ctx.Value(key{}) != "value" {
			t.Error("the function's context lacks the values of Rotate's")
		}
		return nil // It does not look whether the context has ended.
	}))
	if err := rotate(t, c, "x", later); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	r.events = nil
	_, err := srv.Rotate(ctx, "s", "two")
	if got, ok := errors.AsType[*smtest.RotationError](err); !ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Rotate = %v, %v", got, err)
	}
	if n := len(r.events); n != 2 {
		t.Errorf("%d steps were called after setSecret ended the context, want none: %s", n-2, r.steps())
	}
}
