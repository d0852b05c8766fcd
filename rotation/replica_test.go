package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// replicated is memory with copies of its users, which hear of a change when they
// are told to.
type replicated struct {
	*memory

	copies map[string]*memory
	logins []time.Duration // since the beginning, at copies
	begin  time.Time
}

func newReplicated(names ...string) *replicated {
	r := &replicated{memory: newMemory(), copies: map[string]*memory{}, begin: time.Now()}
	for _, name := range names {
		r.copies[name] = newMemory()
	}
	return r
}

func (r *replicated) Replicas(context.Context, *rotation.Value) ([]rotation.Node, error) {
	var nodes []rotation.Node
	for name, m := range r.copies {
		if m == nil {
			return nil, fmt.Errorf("%s: no such host", name)
		}
		nodes = append(nodes, rotation.Node{Name: name, Addr: "192.0.2.1:1"})
	}
	return nodes, nil
}

func (r *replicated) TestAt(ctx context.Context, v *rotation.Value, at rotation.Node) error {
	r.mu.Lock()
	r.logins = append(r.logins, time.Since(r.begin))
	r.mu.Unlock()
	return r.copies[at.Name].Test(ctx, v)
}

// catchUp has a copy hear of all changes.
func (r *replicated) catchUp(name string) {
	r.mu.Lock()
	password := r.passwords["app"]
	r.mu.Unlock()
	r.copies[name].set(password)
}

// The promotion waits for all replicas, not longer than it may, and names those
// that it has waited for in vain.
func TestReplicaWait(t *testing.T) {
	for _, test := range []struct {
		name  string
		opts  rotation.Options
		after map[string]time.Duration // when each hears of it; 0: never
		limit time.Duration            // of ctx
		want  []string                 // the replicas that the error names; nil: no error
		takes time.Duration            // until the error, at most
	}{
		{"both follow", rotation.Options{}, map[string]time.Duration{"a:1": 10 * time.Millisecond, "b:1": 20 * time.Second}, 0, nil, 0},
		{"one does not", rotation.Options{}, map[string]time.Duration{"a:1": time.Second, "b:1": 0}, 0, []string{"b:1"}, 30 * time.Second},
		{"neither does", rotation.Options{ReplicaWait: 3 * time.Second}, map[string]time.Duration{"a:1": 0, "b:1": 0}, 0, []string{"a:1", "b:1"}, 3 * time.Second},
		{"no time to wait", rotation.Options{ReplicaWait: -1}, map[string]time.Duration{"a:1": 0}, 0, []string{"a:1"}, time.Millisecond},
		{"the function's time ends", rotation.Options{}, map[string]time.Duration{"a:1": 0}, 15 * time.Second, []string{"a:1"}, 14 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, r := newService(t), newReplicated()
				for name := range test.after {
					r.copies[name] = newMemory()
				}
				h := rotation.NewHandler(srv.client, r, &test.opts)
				token := srv.begin(t)
				if err := run(t.Context(), h, token, steps[:2]...); err != nil {
					t.Fatal(err)
				}
				for name, after := range test.after {
					if after > 0 {
						time.AfterFunc(after, func() { r.catchUp(name) })
					}
				}
				ctx := t.Context()
				if test.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.limit)
					defer cancel()
				}
				r.begin, r.logins = time.Now(), nil
				err := run(ctx, h, token, steps[2])
				took := time.Since(r.begin)
				if test.want == nil {
					if err != nil {
						t.Fatal(err)
					}
					if err := run(t.Context(), h, token, steps[3]); err != nil {
						t.Fatal(err)
					}
					srv.checkRotated(r.memory, token)
				} else {
					e, ok := errors.AsType[*rotation.Error](err)
					if !ok || e.Reason != rotation.ReasonReplica || took > test.takes || ctx.Err() != nil {
						t.Fatalf("testSecret = %v after %v, want %q within %v", err, took, rotation.ReasonReplica, test.takes)
					}
					for name := range test.after {
						named := false
						for _, want := range test.want {
							named = named || want == name
						}
						if strings.Contains(err.Error(), name+" (192.0.2.1:1)") != named {
							t.Errorf("the error names %s: %t:\n%v", name, !named, err)
						}
					}
					if srv.password("AWSCURRENT") != "first" {
						t.Error("AWSCURRENT has moved")
					}
				}
				// Each of them may be a failed login, of which a server allows few.
				if n := len(r.logins) / len(test.after); n > 13 {
					t.Errorf("%d logins per replica, at %v", n, r.logins)
				}
			})
		})
	}
}

// What is known before anything is changed.
func TestReplicaReach(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(r *replicated)
		want    []string
	}{
		{
			"down", func(r *replicated) { r.copies["a:1"].fail(errors.New("no route to host")) },
			[]string{"a:1 (192.0.2.1:1): no route to host", "nothing was changed", "bring it back, or take it out of the list"},
		},
		{"not resolved", func(r *replicated) { r.copies["a:1"] = nil }, []string{"a:1: no such host", "names resolve"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv, r := newService(t), newReplicated("a:1")
			h := rotation.NewHandler(srv.client, r, nil)
			test.prepare(r)
			err := run(t.Context(), h, srv.begin(t), steps...)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Reason != rotation.ReasonReplica || e.Step != steps[1] {
				t.Fatalf("run = %v, want %q of setSecret", err, rotation.ReasonReplica)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if r.passwords["app"] != "first" {
				t.Error("the password was changed")
			}
		})
	}
}
