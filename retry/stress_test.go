package retry_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// Sixteen callers log in all the time while rotation follows rotation, with
// steps and answers of any length, some rolled back. No caller may see an error,
// and no rotation may cost more refused logins than were in flight, and one.
func TestRotationsUnderLoad(t *testing.T) {
	for seed := range uint64(8) {
		bubble(t, nil, func(t *testing.T, w *world) {
			rnd := rand.New(rand.NewPCG(seed, seed))
			pause := func(longest time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(longest) + 1))) }
			w.db.latency = time.Duration(1+rnd.IntN(50)) * time.Millisecond
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i := range 16 {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond):
						}
						if err := w.r.Do(t.Context(), w.db.login); err != nil {
							t.Errorf("seed %d: %v", seed, err)
							return
						}
					}
				})
			}
			current := "v1"
			for n := range 10 {
				pause(10 * time.Second)
				next := string(rune('a' + n))
				version := w.pend(next)
				pause(3 * time.Second)
				refused := w.db.count()
				w.db.setPassword(next)
				changes := 1
				pause(20 * time.Second)
				if rnd.IntN(4) == 0 {
					w.db.setPassword(current)
					changes++
					pause(time.Second)
					w.unpend(version)
				} else {
					w.move(cache.Current, w.version(cache.Current), version)
					pause(3 * time.Second)
					w.unpend(version)
					current = next
				}
				time.Sleep(5 * time.Second)
				// No more than all of them can be in flight at a change.
				if got, most := w.db.count()-refused, changes*(16+1); got > most {
					t.Errorf("seed %d, rotation %d: %d refused logins, want at most %d", seed, n, got, most)
				}
			}
			close(stop)
			wg.Wait()
		})
	}
}
