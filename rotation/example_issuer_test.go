package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

// vendor is a service whose API keys it makes itself, of which an account may have
// several. A key has a label, by which its owner knows what it is for.
type vendor struct {
	labels map[string]string // by key
	made   int
}

func (v *vendor) issue(label string) string {
	v.made++
	key := "key-" + strconv.Itoa(v.made)
	v.labels[key] = label
	return key
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

// Issue takes the version for a label. What an earlier call made for that version,
// and nobody stored, goes.
func (a apiKey) Issue(_ context.Context, current *rotation.Value, versionID string) (*rotation.Value, error) {
	maps.DeleteFunc(a.vendor.labels, func(key, label string) bool { return label == versionID })
	return current.With("key", a.vendor.issue(versionID))
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
	if _, ok := a.vendor.labels[a.key(v)]; !ok {
		return rotation.Refused(errors.New("401 Unauthorized"))
	}
	return nil
}

// Finish revokes the key that was current before. Revoking it twice does no harm.
func (a apiKey) Finish(_ context.Context, c rotation.Change) error {
	if c.Current != nil {
		delete(a.vendor.labels, a.key(c.Current))
	}
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
	acme := &vendor{labels: map[string]string{"key-0": "by hand"}}
	srv.Put("prod/acme", `{"account":"4711","key":"key-0"}`)

	h := rotation.NewHandler(srv.Client(), apiKey{acme}, nil)
	for range 2 {
		if _, err := h.Rotate(ctx, "prod/acme"); err != nil {
			fmt.Println(err)
			return
		}
		for key := range acme.labels {
			fmt.Println("the vendor has", key)
		}
	}

	// Output:
	// the vendor has key-1
	// the vendor has key-2
}
