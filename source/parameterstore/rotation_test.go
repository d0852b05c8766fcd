package parameterstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/source/parameterstore"
)

var errRefused = errors.New("password authentication failed")

// Which passwords package retry, and so dbconn, tries on a target that takes one of
// them, and what it asks Parameter Store for.
func TestRetry(t *testing.T) {
	labels := &parameterstore.Options{CurrentLabel: "live", PendingLabel: "next"}
	for _, test := range []struct {
		name    string
		opts    *parameterstore.Options
		accepts string // what the target takes when the cache holds version 2
		change  func(t *testing.T, put func(string), label func(int64, string))
		tried   []string
		asked   []string // each time in a row counts once
	}{
		{
			name: "a new version", accepts: "three",
			change: func(_ *testing.T, put func(string), _ func(int64, string)) { put("three") },
			tried:  []string{"two", "three"},
			asked:  []string{"/prod/db"},
		},
		{
			// AWSPENDING is not asked for: there is none.
			name: "a replica that lags behind", accepts: "one",
			change: func(*testing.T, func(string), func(int64, string)) {},
			tried:  []string{"two", "one"},
			asked:  []string{"/prod/db", "/prod/db:1"},
		},
		{
			name: "a pending version", opts: labels, accepts: "three",
			change: func(_ *testing.T, put func(string), label func(int64, string)) {
				put("three")
				label(3, "next")
			},
			tried: []string{"two", "three"},
			asked: []string{"/prod/db:live", "/prod/db:next"},
		},
		{
			name: "a label that has moved", opts: labels, accepts: "three",
			change: func(_ *testing.T, put func(string), label func(int64, string)) {
				put("three")
				label(3, "live")
			},
			tried: []string{"two", "three"},
			asked: []string{"/prod/db:live"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				client := s.client("us-east-1")
				put(t, client, "/prod/db", "one")
				put(t, client, "/prod/db", "two")
				label(t, client, "/prod/db", 2, "live")
				c := newCache(t, parameterstore.New(client, test.opts), &cache.Options{MinRefresh: -1})
				var tried []string
				accepts := "two"
				login := func(_ context.Context, s *cache.Secret) error {
					tried = append(tried, s.Text())
					if s.Text() != accepts {
						return errRefused
					}
					return nil
				}
				r := retry.New(c, "/prod/db", func(err error) bool { return errors.Is(err, errRefused) }, nil)
				if err := r.Do(t.Context(), login); err != nil {
					t.Fatal(err)
				}
				test.change(t, func(value string) { put(t, client, "/prod/db", value) },
					func(number int64, name string) { label(t, client, "/prod/db", number, name) })
				s.asked()
				tried, accepts = nil, test.accepts
				if err := r.Do(t.Context(), login); err != nil {
					t.Error(err)
				}
				if !slices.Equal(tried, test.tried) {
					t.Errorf("tried %q, want %q", tried, test.tried)
				}
				var asked []string
				for _, call := range s.asked() {
					asked = append(asked, call[len("GetParameter "):])
				}
				if asked = slices.Compact(asked); !slices.Equal(asked, test.asked) {
					t.Errorf("asked for %q, want %q", asked, test.asked)
				}
			})
		})
	}
}

// Without a pending version nobody waits for a rotation that nobody has announced.
func TestRetryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := world(t)
		c := newCache(t, parameterstore.New(client, nil), nil)
		r := retry.New(c, "/prod/db", func(error) bool { return true }, nil)
		err := r.Do(t.Context(), func(context.Context, *cache.Secret) error { return errRefused })
		refused, ok := errors.AsType[*retry.Error](err)
		if !ok || len(refused.Tried) != 2 || !errors.Is(err, errRefused) {
			t.Errorf("error %v, want the refusal of the two versions", err)
		}
	})
}
