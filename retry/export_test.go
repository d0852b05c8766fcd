package retry

import (
	"time"

	"github.com/keyturn/keyturn/cache"
)

// SawCurrent has r take note of a read of AWSCURRENT now, as a walk does whose
// goroutine had to wait for a processor between the two.
func (r *Retrier) SawCurrent(s *cache.Secret) { r.note(cache.Current, s, nil) }

// Versions returns how many versions r remembers.
func (r *Retrier) Versions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.target.versions)
}

// Freeze has everything that r remembers grow older by d.
func (r *Retrier) Freeze(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.target.since
	r.target.since = func(t time.Time) time.Duration { return since(t) + d }
}
