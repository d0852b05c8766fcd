package retry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

func TestCurrentIsTriedFirstAndAlone(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2") // createSecret has run, setSecret has not
		w.do()
		w.wantTried("v1")
		if n := w.sm.Count("GetSecretValue"); n != 1 {
			t.Errorf("%d reads, want 1: nobody needs AWSPENDING yet", n)
		}
	})
}

func TestPasswordChangedAndLabelMoved(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.db.setPassword("v2")
		w.wantTried("v1")
		w.do()
		w.wantTried("v1", "v2")
		w.do()
		w.wantTried("v2")
	})
}

func TestWindowBetweenSetAndFinish(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		v2 := w.pend("v2")
		w.db.setPassword("v2")
		w.db.tried()
		w.do()
		w.wantTried("v1", "v2")
		// The refused version stays alone for the whole window, at one or two
		// reads a second.
		w.sm.ResetCalls()
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			w.do()
		}
		for _, password := range w.db.tried() {
			if password != "v2" {
				t.Fatalf("login with %q in the window", password)
			}
		}
		if n := w.sm.Count("GetSecretValue"); n > 24 {
			t.Errorf("%d reads in 10 s of the window, want about 2 a second", n)
		}
		w.promote(v2)
		time.Sleep(2 * time.Second)
		w.do()
		w.sm.ResetCalls()
		w.do()
		w.wantTried("v2", "v2")
		if n := w.sm.Count("GetSecretValue"); n != 0 {
			t.Errorf("%d reads for a login after the rotation, want 0", n)
		}
	})
}

// Between the read of AWSCURRENT and that of AWSPENDING the label may move: then
// AWSPENDING is gone, and AWSCURRENT has what it held.
func TestPromotionBetweenTheReads(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		v2 := w.pend("v2")
		w.db.setPassword("v2")
		promoted := false
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Before: func(context.Context, smtest.Call) {
			if !promoted {
				promoted = true
				w.promote(v2)
			}
		}})
		w.db.tried()
		w.do()
		w.wantTried("v1", "v2")
		if !promoted {
			t.Error("AWSPENDING was never read")
		}
	})
}

// A read that was under way when the label moved shows where it was.
func TestFlightBegunBeforeTheLabelMoved(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(5 * time.Minute)
		// The TTL's own read sees v1 and takes 3 s to say so.
		remove := w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", DelayAnswer: 3 * time.Second, Times: 1})
		w.do() // takes what is held after a second
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.db.setPassword("v2")
		w.db.tried()
		w.do()
		remove()
		w.wantTried("v1", "v2")
	})
}

// With N callers and a changed password, one login is refused.
func TestGateLetsOneFail(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.pend("v2")
		w.db.setPassword("v2")
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(w.do)
		}
		wg.Wait()
		if n := w.db.count(); n != 1 {
			t.Errorf("%d refused logins for 40 callers, want 1", n)
		}
	})
}

func TestFirstLoginsOfAPool(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) {
					t.Errorf("Do: %v", err)
				}
			})
		}
		wg.Wait()
		if n := w.db.count(); n != 1 {
			t.Errorf("%d refused logins for 40 callers with a wrong password, want 1", n)
		}
	})
}

// Logins in flight when the password changes are refused one and all, and all
// of them get through.
func TestLoginsInFlightAtTheChange(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do() // v1 is proven: the next ones go side by side
		w.pend("v2")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(w.do)
		}
		synctest.Wait()
		w.db.setPassword("v2") // too late for these ten: they were checked before
		for range 10 {
			wg.Go(w.do)
		}
		wg.Wait()
		if n := w.db.count(); n < 10 || n > 11 {
			t.Errorf("%d refused logins, want the 10 that went side by side just after the change, and one", n)
		}
	})
}

// A login begun before the password changed succeeds after a later one was
// refused: it must not bring the old version back.
func TestLateSuccessOfAnOldLogin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		var wg sync.WaitGroup
		slow := make(chan struct{})
		wg.Go(func() {
			err := w.r.Do(t.Context(), func(_ context.Context, _ *cache.Secret) error {
				<-slow // accepted by the server long ago, the answer is on its way
				return nil
			})
			if err != nil {
				t.Errorf("the old login: %v", err)
			}
		})
		synctest.Wait()
		w.pend("v2")
		w.db.setPassword("v2")
		w.db.tried()
		w.do()
		w.wantTried("v1", "v2")
		close(slow)
		wg.Wait()
		w.do()
		w.wantTried("v2")
	})
}

// A refusal of AWSPENDING from before setSecret arrives after the version was
// accepted: it must not put the version into quarantine, and the caller whom it
// hit gets in.
func TestSlowRefusalOfPending(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither") // changed by hand
		slow := make(chan struct{})
		attempts := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			err := w.r.Do(t.Context(), func(ctx context.Context, s *cache.Secret) error {
				attempts++
				if s.Text() == "v2" && attempts == 2 {
					<-slow
					return errRefused
				}
				return w.db.login(ctx, s)
			})
			if err != nil {
				t.Errorf("the slow caller: %v", err)
			}
		})
		time.Sleep(2 * time.Second) // it leads no longer
		w.db.setPassword("v2")      // setSecret
		w.db.tried()
		w.do()
		w.wantTried("v2")
		close(slow)
		wg.Wait()
		if attempts != 3 {
			t.Errorf("the slow caller made %d logins, want 3", attempts)
		}
		w.db.tried()
		w.do()
		w.wantTried("v2")
	})
}

func TestLeaderThatHangs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		hang := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { <-hang; return errNetwork })
		})
		synctest.Wait()
		start := time.Now()
		for range 20 {
			wg.Go(func() {
				w.do()
				if waited := time.Since(start); waited > time.Second+2*w.db.latency+5*time.Millisecond {
					t.Errorf("waited %v behind a leader that hangs, want 1s at most", waited)
				}
			})
		}
		time.Sleep(time.Minute)
		close(hang)
		wg.Wait()
	})
}

func TestLeaderThatIsCancelled(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.pend("v2")
		w.db.setPassword("v2")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.r.Do(ctx, w.db.login); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled leader: %v", err)
			}
		})
		time.Sleep(5 * time.Millisecond)
		for range 20 {
			wg.Go(w.do)
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		// The leader's own login arrived, and one more: the lead went to one of
		// the twenty, not to all of them.
		if n := w.db.count(); n != 2 {
			t.Errorf("%d refused logins, want 2", n)
		}
	})
}

func TestNetworkErrorGoesToTheCallerAndReleasesAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		broken := func(context.Context, *cache.Secret) error {
			time.Sleep(100 * time.Millisecond)
			return errNetwork
		}
		start := time.Now()
		for range 20 {
			wg.Go(func() {
				if err := w.r.Do(t.Context(), broken); !errors.Is(err, errNetwork) || errors.Unwrap(err) != nil {
					t.Errorf("Do: %v, want the login's own error, unchanged", err)
				}
			})
		}
		wg.Wait()
		// 1 of them, then 2, 3, 5 and 9: a lead, and 0, 1, 2, 4 and 8 beside it.
		if took := time.Since(start); took > 510*time.Millisecond {
			t.Errorf("20 callers took %v, want 5 rounds of 100 ms", took)
		}
	})
}

func TestPanicInLoginReleasesTheOthers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		func() {
			defer func() { _ = recover() }()
			_ = w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { panic("login") })
		}()
		start := time.Now()
		w.do()
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("the next login waited %v", took)
		}
	})
}

// setSecret ran, the pool moved to AWSPENDING; then the rotation is rolled back:
// the password is the old one again and AWSPENDING is gone.
func TestRolledBackRotation(t *testing.T) {
	for _, unpend := range []bool{true, false} {
		bubble(t, nil, func(t *testing.T, w *world) {
			w.do()
			v2 := w.pend("v2")
			w.db.setPassword("v2")
			w.do()
			w.do()
			w.db.tried()
			time.Sleep(5 * time.Second)
			w.db.setPassword("v1")
			if unpend {
				w.unpend(v2)
			}
			w.do()
			if got := w.db.tried(); len(got) == 0 || len(got) > 2 || got[len(got)-1] != "v1" {
				t.Errorf("unpend %v: logins with %q, want v1 within 2", unpend, got)
			}
			w.do()
			w.wantTried("v1")
		})
	}
}

// A rollback after promotion: AWSCURRENT is moved back.
func TestRollbackAfterPromotion(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		w.do()
		v1, v2 := w.version(cache.Current), w.pend("v2")
		w.db.setPassword("v2")
		w.do()
		w.promote(v2)
		time.Sleep(2 * time.Second)
		w.do()
		w.db.tried()
		w.db.setPassword("v1")
		w.move(cache.Current, v2, v1)
		time.Sleep(2 * time.Second)
		w.do()
		w.wantTried("v2", "v1")
		w.do()
		w.wantTried("v1")
	})
}

func TestLaggingReplica(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		replica, lagging := newServer("v1"), retry.New(w.c, "prod/db", isRefused, nil)
		login := func() {
			t.Helper()
			if err := lagging.Do(t.Context(), replica.login); err != nil {
				t.Errorf("replica: %v", err)
			}
		}
		w.do()
		login()
		time.Sleep(time.Minute)
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.db.setPassword("v2")
		w.do()
		replica.tried()
		w.db.tried()
		for range 5 {
			login() // what the replica refuses, the writer accepts
			w.do()
		}
		if got := replica.tried(); len(got) != 6 || got[0] != "v2" || got[1] != "v1" {
			t.Errorf("replica's logins: %q, want v2 once, then v1", got)
		}
		w.wantTried("v2", "v2", "v2", "v2", "v2")
		replica.setPassword("v2") // it has caught up
		login()
		login()
		if got := replica.tried(); got[len(got)-1] != "v2" {
			t.Errorf("replica's logins: %q, want v2 at last", got)
		}
	})
}

// One reader endpoint, two nodes, of which one lags: what one refuses the other
// may accept, so a refusal frees the version that it speaks for.
func TestReaderEndpointWithTwoNodes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		ahead, behind := newServer("v2"), newServer("v1")
		r := retry.New(w.c, "prod/db", isRefused, nil)
		// login sends the first, second and third login to these nodes.
		login := func(nodes ...*server) error {
			return r.Do(t.Context(), func(ctx context.Context, s *cache.Secret) error {
				node := nodes[0]
				nodes = nodes[1:]
				return node.login(ctx, s)
			})
		}
		for i, nodes := range [][]*server{
			{ahead},                 // v2
			{behind, behind},        // v2 refused, v1
			{behind},                // v1: v2 is in quarantine
			{ahead, ahead},          // v1 refused: v2 is free again
			{behind, ahead, ahead},  // v2 refused, v1 refused, v2 in the same Do
			{behind, behind},        // v2 refused, v1
			{ahead, behind, behind}, // v1 refused, v2 refused, v1
			{ahead, ahead},          // v1 refused, v2
		} {
			if err := login(nodes...); err != nil {
				t.Errorf("login %d: %v", i+1, err)
			}
		}

		// At random, two logins of three reach the node that wants them; and
		// bad luck locks nobody out for the quarantine.
		rnd, failed, streak := rand.New(rand.NewPCG(1, 2)), 0, 0
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			node := func() *server { return []*server{ahead, behind}[rnd.IntN(2)] }
			if login(node(), node(), node()) == nil {
				streak = 0
				continue
			}
			failed++
			if streak++; streak > 5 {
				t.Fatalf("%d logins in a row were refused", streak)
			}
		}
		if failed > 50 {
			t.Errorf("%d of 200 logins were refused, want about one in eight", failed)
		}
		t.Logf("%d of 200 logins were refused", failed)
	})
}

// Alternating users: the old version goes on working, and must be left at once.
func TestAlternatingUsersLeaveTheOldVersion(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.db.setPassword("v1", "v2")
		time.Sleep(5 * time.Minute)
		w.db.tried()
		for range 5 {
			w.do()
		}
		w.wantTried("v2", "v2", "v2", "v2", "v2")
		if n := w.db.count(); n != 0 {
			t.Errorf("%d refused logins, want 0", n)
		}
	})
}

func TestAtMostThreeLogins(t *testing.T) {
	bubble(t, &retry.Options{Patience: -1}, func(t *testing.T, w *world) {
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.pend("v3")
		w.db.setPassword("neither")
		err := w.r.Do(t.Context(), w.db.login)
		failed, ok := errors.AsType[*retry.Error](err)
		if !ok || len(failed.Tried) != 3 || !isRefused(err) {
			t.Fatalf("Do: %v", err)
		}
		for i, want := range []string{cache.Current, cache.Pending, cache.Previous} {
			if failed.Tried[i].Stage != want {
				t.Errorf("login %d was with %s, want %s", i+1, failed.Tried[i].Stage, want)
			}
		}
		w.wantTried("v2", "v3", "v1")
	})
}

func TestQuarantineEndsForOneCaller(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		login := func() error { return w.r.Do(t.Context(), w.db.login) }
		if err := login(); !isRefused(err) {
			t.Fatal(err)
		}
		w.wantTried("v1")
		w.sm.ResetCalls()
		for range 290 { // every tenth of a second of the next 29
			time.Sleep(100 * time.Millisecond)
			err := login()
			failed, ok := errors.AsType[*retry.Error](err)
			if !ok || !isRefused(err) || len(failed.Tried) != 0 {
				t.Fatalf("in quarantine: %v", err)
			}
		}
		w.wantTried()
		if n := w.sm.Count("GetSecretValue"); n > 29*4 {
			t.Errorf("%d reads in 29 s, want a few a second", n)
		}
		time.Sleep(2 * time.Second)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = login() })
		}
		wg.Wait()
		w.wantTried("v1")
		// Good again: the one who finds out lets everybody in.
		w.db.setPassword("v1")
		time.Sleep(31 * time.Second)
		for range 20 {
			wg.Go(w.do)
		}
		wg.Wait()
	})
}

func TestMaxConcurrentLogins(t *testing.T) {
	bubble(t, &retry.Options{MaxConcurrentLogins: 2}, func(t *testing.T, w *world) {
		w.do()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(w.do)
		}
		wg.Wait()
		if w.db.peak != 2 {
			t.Errorf("%d logins at once, want 2", w.db.peak)
		}
		w.pend("v2")
		w.db.setPassword("v2")
		for range 20 {
			wg.Go(w.do)
		}
		wg.Wait()
		if n := w.db.count(); n > 2 {
			t.Errorf("%d refused logins, want at most 2", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		for range 2 {
			wg.Go(func() { _ = w.r.Do(t.Context(), w.db.login) })
		}
		synctest.Wait()
		if err := w.r.Do(ctx, w.db.login); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a slot: %v", err)
		}
		wg.Wait()
	})
}

func TestErrors(t *testing.T) {
	bubble(t, &retry.Options{Target: "db.example:5432"}, func(t *testing.T, w *world) {
		// A secret that cannot be read is the cache's own error.
		missing := retry.New(w.c, "prod/none", isRefused, nil)
		if err := missing.Do(t.Context(), w.db.login); !errors.Is(err, cache.ErrNotFound) || !strings.Contains(err.Error(), `"prod/none"`) {
			t.Errorf("missing secret: %v", err)
		}
		w.wantTried()

		w.db.setPassword("other")
		err := w.r.Do(t.Context(), w.db.login)
		for _, want := range []string{`db.example:5432 refuses secret "prod/db"`, "version " + w.version(cache.Current) + " (AWSCURRENT)", errRefused.Error()} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Do: %v, want %q in it", err, want)
			}
		}
		leaktest.Check(t, "v1", err.Error())
		err = w.r.Do(t.Context(), w.db.login)
		if err == nil || !strings.Contains(err.Error(), "every version was refused a moment ago") || !isRefused(err) {
			t.Errorf("Do in quarantine: %v", err)
		}

		elsewhere := retry.New(w.c, "prod/db", isRefused, &retry.Options{Target: "x:1", Usable: func(*cache.Secret) bool { return false }})
		if err := elsewhere.Do(t.Context(), w.db.login); err == nil || !strings.Contains(err.Error(), `no version of secret "prod/db" is meant for x:1`) {
			t.Errorf("no usable version: %v", err)
		}

		w.c.Close()
		if err := w.r.Do(t.Context(), w.db.login); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("Do after Close: %v", err)
		}
	})
}

// A failed read hides no refusal, and is told beside it.
func TestRefusalAndFailedReadAreBothTold(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.db.setPassword("other")
		w.sm.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		err := w.r.Do(t.Context(), w.db.login)
		failed, ok := errors.AsType[*cache.Error](err)
		if !isRefused(err) || !ok || !failed.Transient {
			t.Errorf("Do: %v, want the refusal and the failed read", err)
		}
	})
}

func TestWalkStepByStep(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		walk := w.r.Walk()
		s, err := walk.Next(t.Context())
		if err != nil || s.Text() != "v1" {
			t.Fatalf("Next = %v, %v", s, err)
		}
		walk.Refused(t.Context(), errRefused)
		if s, err = walk.Next(t.Context()); err != nil || s.Text() != "v2" {
			t.Fatalf("Next = %v, %v", s, err)
		}
		walk.Accepted()
		walk.Accepted() // an outcome told twice is told once
		walk.Refused(t.Context(), errRefused)

		// Next without an outcome: the login before it told nothing.
		walk = w.r.Walk()
		for range 5 {
			if s, err := walk.Next(t.Context()); err != nil || s.Text() != "v2" {
				t.Fatalf("Next = %v, %v", s, err)
			}
		}
		walk.NoVerdict(t.Context())
	})
}

func TestNewWithoutWhatItNeeds(t *testing.T) {
	for name, call := range map[string]func(){
		"cache":       func() { retry.New(nil, "s", isRefused, nil) },
		"isAuthError": func() { retry.New(&cache.Cache{}, "s", nil, nil) },
	} {
		func() {
			defer func() {
				if got, ok := recover().(string); !ok || !strings.Contains(got, "retry: New needs a cache and a function") {
					t.Errorf("no %s: %q", name, got)
				}
			}()
			call()
		}()
	}
}
