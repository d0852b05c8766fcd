package rotation_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
)

// A key that was issued and not stored is removed, the one that is stored stays;
// AWSCURRENT is accepted at every moment.
func TestIssuerKilled(t *testing.T) {
	srv, acme := newService(t), &vendor{labels: map[string]string{"key-0": ""}}
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
		if _, ok := acme.labels[current]; !ok {
			t.Fatalf("killed at %d: AWSCURRENT is refused", n)
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		current = apiKey{}.key(rotation.NewValue(srv.text("AWSCURRENT")))
		if keys := slices.Collect(maps.Keys(acme.labels)); !slices.Equal(keys, []string{current}) {
			t.Fatalf("killed at %d: the vendor has the keys %q, AWSCURRENT is %q", n, keys, current)
		}
	}
}
