package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

var (
	errLocked   = errors.New("account is locked")
	errUnwanted = errors.New("role is not permitted to log in")
)

// users tells the versions' users apart by what stands before the colon.
func users(opts retry.Options) *retry.Options {
	opts.User = func(s *cache.Secret) string { user, _, _ := strings.Cut(s.Text(), ":"); return user }
	opts.LockedOut = func(err error) bool { return errors.Is(err, errLocked) }
	opts.RefusesUser = func(err error) bool { return errors.Is(err, errUnwanted) }
	return &opts
}

// A target that has locked a user out gets no login with that user for half a
// minute, whoever asks, and whatever the labels do.
func TestLockedOut(t *testing.T) {
	bubble(t, users(retry.Options{}), func(t *testing.T, w *world) {
		logins := 0
		locked := func(context.Context, *cache.Secret) error { logins++; return errLocked }
		w.sm.Put("prod/db", "app:0")
		w.sm.Put("prod/db", "app:1")
		for range 20 {
			start := time.Now()
			err := w.r.Do(t.Context(), locked)
			failed, ok := errors.AsType[*retry.Error](err)
			if !ok || !errors.Is(err, errLocked) || failed.Cause != nil {
				t.Fatalf("Do: %v", err)
			}
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("Do took %v", waited)
			}
			time.Sleep(time.Second)
			w.sm.Put("prod/db", fmt.Sprint("app:", logins)) // a change that is no help
		}
		if logins != 1 {
			t.Errorf("%d logins with a user that is locked out, want 1", logins)
		}
		time.Sleep(15 * time.Second)
		if err := w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { return nil }); err != nil {
			t.Errorf("Do after the quarantine: %v", err)
		}
	})
}

// With alternating users the other one still gets in.
func TestLockedOutUserIsNotTheOther(t *testing.T) {
	for name, refusal := range map[string]error{"locked out": errLocked, "unwanted": errUnwanted} {
		bubble(t, users(retry.Options{}), func(t *testing.T, w *world) {
			w.sm.Put("prod/db", "app:1")
			w.sm.Put("prod/db", "app_clone:1") // AWSCURRENT; app:1 is AWSPREVIOUS
			var tried []string
			login := func(_ context.Context, s *cache.Secret) error {
				tried = append(tried, s.Text())
				if strings.HasPrefix(s.Text(), "app_clone:") {
					return refusal
				}
				return nil
			}
			if err := w.r.Do(t.Context(), login); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if fmt.Sprint(tried) != "[app_clone:1 app:1]" {
				t.Errorf("%s: tried %v", name, tried)
			}
		})
	}
}

// A user that the target does not want is tried once by each caller, with no
// version of the same user after it, no wait and no quarantine: it may be wanted
// again any moment, and what was wrong was not the password.
func TestUnwantedUser(t *testing.T) {
	bubble(t, users(retry.Options{}), func(t *testing.T, w *world) {
		w.sm.Put("prod/db", "app:1")
		w.sm.Put("prod/db", "app:2")
		var mu sync.Mutex
		var tried []string
		unwanted := true
		login := func(_ context.Context, s *cache.Secret) error {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, s.Text())
			if unwanted {
				return errUnwanted
			}
			return nil
		}
		start := time.Now()
		err := w.r.Do(t.Context(), login)
		if _, ok := errors.AsType[*retry.Error](err); !ok || !errors.Is(err, errUnwanted) || time.Since(start) > time.Second {
			t.Errorf("Do: %v after %v", err, time.Since(start))
		}
		if fmt.Sprint(tried) != "[app:2]" {
			t.Errorf("tried %v", tried)
		}
		unwanted = false
		if err := w.r.Do(t.Context(), login); err != nil {
			t.Errorf("Do a moment later: %v", err)
		}
	})
}

// What happens is told in order, behind the logins, and counted.
func TestEvents(t *testing.T) {
	var mu sync.Mutex
	var events []retry.Event
	stats := new(retry.Stats)
	opts := &retry.Options{
		Target: "db:5432", Stats: stats,
		Code: func(err error) string {
			if isRefused(err) {
				return "28P01"
			}
			return ""
		},
		OnEvent: func(e retry.Event) {
			time.Sleep(time.Second) // which is nobody else's time
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		},
	}
	bubble(t, opts, func(t *testing.T, w *world) {
		do := func() {
			t.Helper()
			start := time.Now()
			if err := w.r.Do(t.Context(), w.db.login); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(start); waited > 100*time.Millisecond {
				t.Errorf("Do took %v", waited)
			}
		}
		do()
		do()
		w.sm.Put("prod/db", "v2")
		w.db.setPassword("v2")
		time.Sleep(2 * time.Second)
		do()
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		var got []string
		for _, e := range events {
			if e.SecretID != "prod/db" || e.Target != "db:5432" || e.Stage != cache.Current || e.VersionID == "" || e.Time.IsZero() {
				t.Errorf("event %+v", e)
			}
			if (e.Kind == retry.Refused || e.Kind == retry.Quarantined) != (e.Code == "28P01" && errors.Is(e.Err, errRefused)) {
				t.Errorf("event %+v", e)
			}
			got = append(got, string(e.Kind))
		}
		if want := "tried,proven,tried,tried,refused,quarantined,tried,proven"; strings.Join(got, ",") != want {
			t.Errorf("events %s, want %s", strings.Join(got, ","), want)
		}
		if stats.Logins.Load() != 4 || stats.Accepted.Load() != 3 || stats.Refused.Load() != 1 || stats.Proven.Load() != 2 || stats.Quarantined.Load() != 1 {
			t.Errorf("Stats %+v", stats)
		}
	})
}

// The ages of a Retrier are the cache's, which counts a freeze in serverless mode:
// a version in quarantine is free after one.
func TestQuarantineEndsInAFreeze(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		refuse := func(context.Context, *cache.Secret) error { return errRefused }
		if err := w.r.Do(t.Context(), refuse); err == nil {
			t.Fatal("Do succeeded")
		}
		accept := func(context.Context, *cache.Secret) error { return nil }
		if err := w.r.Do(t.Context(), accept); err == nil {
			t.Error("Do tried a version in quarantine")
		}
		w.r.Freeze(time.Minute)
		if err := w.r.Do(t.Context(), accept); err != nil {
			t.Errorf("Do after a minute's freeze: %v", err)
		}
	})
}
