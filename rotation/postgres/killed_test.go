package postgres_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// All API calls and all statements of all steps, the commits included: wherever
// the process dies, a version logs in that clients know of, and repeating the
// rotation completes it, with both users able to do what they could before.
func TestKilled(t *testing.T) {
	for _, test := range []struct {
		name     string
		strategy postgres.Strategy
		fresh    bool // there is no partner yet
		least    int  // moments
	}{
		{"single user", postgres.SingleUser, false, 40},
		{"single user by superuser", postgres.SingleUserBySuperuser, false, 50},
		{"alternating users", postgres.AlternatingUsers, false, 100},
		{"alternating users, the first time", postgres.AlternatingUsers, true, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, l := newPair(t, ""), &killtest.Life{Ignore: handshake}
			if err := f.as("AWSCURRENT", "CREATE TABLE t (x int)"); err != nil {
				t.Fatal(err)
			}
			target := postgres.NewTarget(&postgres.Options{Strategy: test.strategy, DialFunc: l.Dial})
			h := rotation.NewHandler(killtest.Client{API: f.client, Life: l}, target, nil)
			alternating := test.strategy == postgres.AlternatingUsers
			if alternating && !test.fresh {
				if err := run(t.Context(), h, f.begin(), steps...); err != nil {
					t.Fatal(err)
				}
			}
			want := f.everything(t, f.database, f.user)

			survived, moments := 0, 0
			for n, turn := 1, 0; survived < 2; turn++ {
				if test.fresh {
					f.forgetPartner()
				}
				before := f.value("AWSCURRENT")
				token := f.begin()
				l.Begin(n)
				err := run(t.Context(), h, token, steps...)
				over := l.Over()
				l.Begin(0)
				if !over {
					if n <= test.least {
						t.Fatalf("a rotation has but %d moments to be killed at", n-1)
					}
					if err != nil {
						t.Fatal(err)
					}
					survived++
					continue
				}
				survived = 0
				moments++
				current := f.as("AWSCURRENT", "INSERT INTO t VALUES (1)")
				if current != nil && alternating {
					t.Fatalf("killed at %d: AWSCURRENT: %v", n, current)
				}
				if current != nil {
					if pending := f.as("AWSPENDING", "INSERT INTO t VALUES (1)"); pending != nil {
						t.Fatalf("killed at %d: no version logs in: %v", n, errors.Join(current, pending))
					}
				}
				if err := run(t.Context(), h, token, steps...); err != nil {
					t.Fatalf("killed at %d: %v", n, err)
				}
				now := f.value("AWSCURRENT")
				if now == before {
					t.Fatalf("killed at %d: nothing was rotated", n)
				}
				if err := f.as("AWSCURRENT", "INSERT INTO t VALUES (1)"); err != nil {
					t.Fatalf("killed at %d: AWSCURRENT: %v", n, err)
				}
				if got := f.everything(t, f.database, now.Username); !maps.Equal(got, want) {
					t.Fatalf("killed at %d: %q may do %v, before it was %v", n, now.Username, got, want)
				}
				if !alternating || test.fresh || turn%2 == 1 { // each moment for either user
					n++
				}
			}
			t.Logf("killed at %d moments", moments)
		})
	}
}

// handshake reports whether a message is of the login, or ends the session.
func handshake(message []byte) bool { return message[0] == 0 || message[0] == 'p' || message[0] == 'X' }

// forgetPartner undoes all rotations.
func (f *fixture) forgetPartner() {
	f.t.Helper()
	admin(f.t, server, f.database, f.names("DROP ROLE IF EXISTS $clone")...)
	if err := server.SetPassword(f.t.Context(), f.user, "first"); err != nil {
		f.t.Fatal(err)
	}
	f.Put(secretName, secret(server, f.user, "first", map[string]any{"masterarn": masterName}))
}
