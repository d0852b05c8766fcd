package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

// vendor is a service that makes API keys, of which an account may have several.
type vendor struct {
	mu   sync.Mutex // protects following
	keys map[string]bool
	made int
}

func (v *vendor) issue() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.made++
	key := "key-" + strconv.Itoa(v.made)
	v.keys[key] = true
	return key
}

func (v *vendor) accepts(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keys[key]
}

func (v *vendor) revokeAllBut(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.keys, func(k string, _ bool) bool { return k != key })
}

// apiKey is the target: an API key of the vendor's. The vendor makes the key, so
// it is an Issuer; both keys work until the old one is revoked, so it is a
// Finisher too.
type apiKey struct{ vendor *vendor }

func (a apiKey) key(v *rotation.Value) string {
	var s struct{ Key string }
	_ = v.Decode(&s) // no key is one that the vendor does not know
	return s.Key
}

func (a apiKey) Issue(_ context.Context, current *rotation.Value, _ string) (*rotation.Value, error) {
	return current.With("key", a.vendor.issue())
}

// Next is not called: there is no password to generate.
func (a apiKey) Next(_, _ *rotation.Value) (*rotation.Value, error) {
	return nil, errors.New("the vendor makes the keys")
}

func (a apiKey) Check(current, pending *rotation.Value) error {
	return rotation.Unchanged(current, pending, "key")
}

// Set has nothing to do: a key works from the moment it is issued.
func (a apiKey) Set(context.Context, rotation.Change) error { return nil }

func (a apiKey) Test(_ context.Context, v *rotation.Value) error {
	if !a.vendor.accepts(a.key(v)) {
		return rotation.Refused(errors.New("401 Unauthorized"))
	}
	return nil
}

// Finish revokes the key that was current before, and those that were issued and
// never stored. Doing so twice does no harm.
func (a apiKey) Finish(_ context.Context, c rotation.Change) error {
	a.vendor.revokeAllBut(a.key(c.Pending))
	return nil
}

var (
	_ rotation.Target   = apiKey{}
	_ rotation.Issuer   = apiKey{}
	_ rotation.Finisher = apiKey{}
)

// A target for API keys, which a service issues and revokes.
func ExampleIssuer() {
	ctx := context.Background()
	srv := smtest.New(nil)
	defer srv.Close()
	acme := &vendor{keys: map[string]bool{"key-0": true}}
	srv.Put("prod/acme", `{"account":"4711","key":"key-0"}`)

	h := rotation.NewHandler(srv.Client(), apiKey{acme}, nil)
	for range 2 {
		if _, err := h.Rotate(ctx, "prod/acme"); err != nil {
			fmt.Println(err)
			return
		}
		for key := range acme.keys {
			fmt.Println("the vendor has", key)
		}
	}

	// Output:
	// the vendor has key-1
	// the vendor has key-2
}
