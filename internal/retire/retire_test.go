package retire_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/retire"
	"github.com/keyturn/keyturn/smtest"
)

// A world is a secret, and a pool whose target accepts what it is told to.
type world struct {
	srv     *smtest.Server
	c       *cache.Cache
	h       *cache.Handle
	pool    *retire.Pool
	accepts bool // the newest version
	proofs  int
	retired int
}

func bubble(t *testing.T, opts *cache.Options, keep bool, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{srv: smtest.New(nil), accepts: true}
		defer w.srv.Close()
		w.srv.Put("prod/db", "v1")
		c, err := cache.New(w.srv.Client(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.c, w.h = c, c.Handle("prod/db")
		w.pool = retire.New(retire.Options{
			Cache: c, Handle: w.h, Keep: keep,
			Prove: func(ctx context.Context) error {
				w.proofs++
				s, err := w.h.Get(ctx)
				if err != nil || !w.accepts {
					return errors.Join(err, errors.New("refused"))
				}
				w.pool.Accepted(s)
				return nil
			},
			Retired: func(string) { w.retired++ },
		})
		f(t, w)
	})
}

// open opens connections with what is held.
func (w *world) open(t *testing.T, n int) []*retire.Conn {
	t.Helper()
	s, err := w.h.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var conns []*retire.Conn
	for range n {
		conns = append(conns, w.pool.Open(s))
	}
	w.pool.Accepted(s)
	return conns
}

// change has the secret changed, and the cache know of it.
func (w *world) change(t *testing.T, value string) {
	t.Helper()
	w.srv.Put("prod/db", value)
	time.Sleep(time.Second)
	if _, err := w.c.Refresh(t.Context(), "prod/db"); err != nil {
		t.Fatal(err)
	}
}

// checkOut asks every connection, and returns those that go on.
func checkOut(conns []*retire.Conn) (left []*retire.Conn) {
	defer synctest.Wait() // for a proof that it has begun
	for _, c := range conns {
		if !c.Retired() {
			left = append(left, c)
		}
	}
	return left
}

// After one proof the connections of a pool go within ten seconds, and in no second
// more than a tenth of them, whatever the size.
func TestATenthASecond(t *testing.T) {
	for _, size := range []int{1, 8, 32, 100, 1000} {
		bubble(t, nil, false, func(t *testing.T, w *world) {
			conns := w.open(t, size)
			time.Sleep(time.Minute)
			if left := checkOut(conns); len(left) != size || w.proofs != 0 {
				t.Errorf("size %d: %d connections left, %d proofs, and nothing has changed", size, len(left), w.proofs)
			}
			w.change(t, "v2")
			if left := checkOut(conns); len(left) != size {
				t.Errorf("size %d: %d connections left before the proof", size, len(left))
			}
			synctest.Wait()
			for second := 1; len(conns) > 0; second++ {
				time.Sleep(time.Second)
				left := checkOut(conns)
				if gone := len(conns) - len(left); gone > size/10+2 {
					t.Errorf("size %d: %d connections retired in second %d", size, gone, second)
				}
				if conns = left; second > 10 {
					t.Errorf("size %d: %d connections left after %d seconds", size, len(left), second)
					break
				}
			}
			if w.proofs != 1 || w.retired != size {
				t.Errorf("size %d: %d proofs, %d retired", size, w.proofs, w.retired)
			}
		})
	}
}

// What is opened after the proof stays, with whichever version: its server may not
// want the newer one yet.
func TestOpenedAfterTheProofStays(t *testing.T) {
	bubble(t, nil, false, func(t *testing.T, w *world) {
		old := w.open(t, 1)
		v1, _ := w.h.Peek()
		w.change(t, "v2")
		checkOut(old)
		synctest.Wait()
		time.Sleep(time.Second)
		lagging, current := w.pool.Open(v1), w.open(t, 1)[0]
		time.Sleep(time.Hour)
		if lagging.Retired() || current.Retired() {
			t.Error("a connection that was opened after the proof retired")
		}
		if !old[0].Retired() {
			t.Error("a connection from before the proof did not")
		}
	})
}

// A version that is refused retires nobody, and is tried out at most twice a
// minute.
func TestProofThatFails(t *testing.T) {
	bubble(t, nil, false, func(t *testing.T, w *world) {
		conns := w.open(t, 8)
		w.change(t, "v2")
		w.accepts = false
		for range 60 {
			if left := checkOut(conns); len(left) != 8 {
				t.Fatalf("%d connections left", len(left))
			}
			time.Sleep(time.Second)
		}
		if w.proofs != 2 {
			t.Errorf("%d proofs in a minute", w.proofs)
		}
		w.accepts = true
		time.Sleep(30 * time.Second)
		checkOut(conns)
		time.Sleep(10 * time.Second)
		if left := checkOut(conns); len(left) != 0 {
			t.Errorf("%d connections left once it was accepted", len(left))
		}
	})
}

// A connection that was opened with AWSPENDING is the newest there is. To try
// AWSCURRENT out because of it would be a failed login for nothing.
func TestOpenedInTheMiddleOfARotation(t *testing.T) {
	bubble(t, nil, false, func(t *testing.T, w *world) {
		w.open(t, 1)
		w.srv.Put("prod/other", "v2")
		pending, err := w.c.Get(t.Context(), "prod/other")
		if err != nil {
			t.Fatal(err)
		}
		conn := w.pool.Open(pending)
		time.Sleep(time.Minute)
		if left := checkOut([]*retire.Conn{conn}); len(left) != 1 || w.proofs != 0 {
			t.Errorf("%d connections left, %d proofs; AWSCURRENT has not moved", len(left), w.proofs)
		}
		w.change(t, "v3")
		checkOut([]*retire.Conn{conn})
		time.Sleep(10 * time.Second)
		if left := checkOut([]*retire.Conn{conn}); len(left) != 0 {
			t.Error("the connection did not retire when AWSCURRENT moved on")
		}
	})
}

// A rollback is a change like any other: those of the version that was rolled back
// go.
func TestRollback(t *testing.T) {
	bubble(t, nil, false, func(t *testing.T, w *world) {
		w.open(t, 1)
		w.change(t, "v2")
		conns := w.open(t, 4)
		time.Sleep(time.Minute)
		w.change(t, "v1 again")
		checkOut(conns)
		time.Sleep(10 * time.Second)
		if left := checkOut(conns); len(left) != 0 {
			t.Errorf("%d connections left", len(left))
		}
	})
}

// Nothing runs in the background in serverless mode: there an ordinary login is
// the proof.
func TestServerlessProof(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On}, false, func(t *testing.T, w *world) {
		conns := w.open(t, 1)
		w.change(t, "v2")
		checkOut(conns)
		time.Sleep(time.Minute)
		if left := checkOut(conns); len(left) != 1 || w.proofs != 0 {
			t.Errorf("%d connections left, %d proofs", len(left), w.proofs)
		}
		w.open(t, 1)
		time.Sleep(10 * time.Second)
		if left := checkOut(conns); len(left) != 0 {
			t.Error("the connection did not retire")
		}
	})
}

func TestKeep(t *testing.T) {
	bubble(t, nil, true, func(t *testing.T, w *world) {
		conns := w.open(t, 4)
		w.change(t, "v2")
		w.open(t, 1)
		time.Sleep(time.Minute)
		if left := checkOut(conns); len(left) != 4 || w.proofs != 0 {
			t.Errorf("%d connections left of those that are kept, %d proofs", len(left), w.proofs)
		}
	})
}

// A checkout costs a look at the cache: no allocation.
func TestCheckoutDoesNotAllocate(t *testing.T) {
	bubble(t, nil, false, func(t *testing.T, w *world) {
		conn := w.open(t, 1)[0]
		if n := testing.AllocsPerRun(100, func() { conn.Retired() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
