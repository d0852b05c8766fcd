package rotation_test

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
)

// A key that was issued and not stored is removed in the end; AWSCURRENT is accepted
// at every moment.
func TestIssuerKilled(t *testing.T) {
	srv, acme := newService(t), &vendor{keys: map[string]bool{"key-0": true}}
	srv.Put(secretName, `{"account":"4711","key":"key-0"}`)
	life := &killtest.Life{}
	h := rotation.NewHandler(killtest.Client{API: srv.client, Life: life}, apiKey{acme}, nil)
	for n := 1; ; n++ {
		token := srv.begin(t)
		life.Begin(n)
		err := run(t.Context(), h, token, steps...)
		over := life.Over()
		life.Begin(0)
		if !over {
			if err != nil || n < 30 {
				t.Fatalf("not killed at %d: %v", n, err)
			}
			return
		}
		current := apiKey{}.key(rotation.NewValue(srv.text("AWSCURRENT")))
		if !acme.accepts(current) {
			t.Fatalf("killed at %d: AWSCURRENT is refused", n)
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		current = apiKey{}.key(rotation.NewValue(srv.text("AWSCURRENT")))
		if keys := slices.Collect(maps.Keys(acme.keys)); !slices.Equal(keys, []string{current}) {
			t.Fatalf("killed at %d: the vendor has the keys %q, AWSCURRENT is %q", n, keys, current)
		}
	}
}

// Two deliveries issue two keys, of which one is stored.
func TestIssuerConcurrent(t *testing.T) {
	srv, acme := newService(t), &vendor{keys: map[string]bool{"key-0": true}}
	srv.Put(secretName, `{"account":"4711","key":"key-0"}`)
	h := rotation.NewHandler(srv.client, apiKey{acme}, nil)
	for range 10 {
		token := srv.begin(t)
		for _, together := range [][]string{steps[:1], steps} {
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if err := run(t.Context(), h, token, together...); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if !acme.accepts(apiKey{}.key(rotation.NewValue(srv.text("AWSCURRENT")))) || len(acme.keys) != 1 {
			t.Fatalf("AWSCURRENT is refused, or the vendor has more keys than one: %d", len(acme.keys))
		}
	}
}
