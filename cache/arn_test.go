package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// named runs f as oneAttempt does, with the full ARN of prod/db, and no calls in
// the log yet.
func named(t *testing.T, opts *cache.Options, f func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string)) {
	t.Helper()
	oneAttempt(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		arn := arnOf(t, srv, "prod/db")
		srv.ResetCalls()
		f(t, srv, c, arn)
	})
}

func TestNameAnswersForItsARN(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		before := c.Handle(arn) // made when nobody knew yet what it is
		get(t, c, "v1")
		for range 3 {
			wantText(t, c, arn, "v1")
		}
		for name, h := range map[string]*cache.Handle{"old": before, "new": c.Handle(arn)} {
			if s, ok := h.Peek(); !ok || s.Text() != "v1" {
				t.Errorf("Peek of the %s handle = %v, %v", name, s, ok)
			}
			if s, err := h.Get(t.Context()); err != nil || s.Text() != "v1" {
				t.Errorf("Get of the %s handle = %v, %v", name, s, err)
			}
			if status := h.Status(); status.State != cache.Fresh || status.VersionID == "" || status.Err != nil {
				t.Errorf("Status of the %s handle = %+v", name, status)
			}
		}
		wantPrefetched(t, c, arn)
		wantAsked(t, srv, 0, 1)
	})
	// Nobody has named the ARN yet, and what is known of it is known at once.
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		get(t, c, "v1")
		h := c.Handle(arn)
		if status := h.Status(); status.State != cache.Fresh {
			t.Errorf("Status = %+v", status)
		}
		if s, ok := h.Peek(); !ok || s.Text() != "v1" {
			t.Errorf("Peek = %v, %v", s, ok)
		}
		calls(t, srv, 1)
	})
}

// And so it does when the name's entry had to go and has come back.
func TestNameAnswersForItsARNAfterEviction(t *testing.T) {
	named(t, &cache.Options{MaxEntries: 4}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		others := putApps(srv, 12)
		for range 3 {
			get(t, c, "v1")
			get(t, c, "v1")
			srv.ResetCalls()
			wantText(t, c, arn, "v1")
			calls(t, srv, 0)
			for _, id := range others {
				wantText(t, c, id, valueOf(id))
				wantText(t, c, id, valueOf(id)) // what is read but once goes first
			}
			for id := range c.Statuses() {
				if id == "prod/db" || id == arn {
					t.Fatalf("%q was not evicted", id)
				}
			}
		}
	})
}

// An ARN never answers for a name, which may mean another secret: the name makes
// its own call. After that they are known to be one.
func TestARNDoesNotAnswerForAName(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		wantText(t, c, arn, "v1")
		calls(t, srv, 1)
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v2")
		get(t, c, "v2")
		calls(t, srv, 2)
		wantText(t, c, arn, "v2")
		calls(t, srv, 2)
	})
}

// Also those that were first asked for at the same time are known to be one, once
// both answers are there.
func TestNameAndARNAtOnce(t *testing.T) {
	for _, arnSlow := range []bool{false, true} {
		for _, byARN := range []bool{false, true} {
			t.Run(fmt.Sprint("the ARN's answer last: ", arnSlow, ", refreshed by ARN: ", byARN), func(t *testing.T) {
				named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
					srv.Inject(smtest.Fault{Operation: "GetSecretValue", After: func(_ context.Context, call smtest.Call) {
						time.Sleep(time.Second) // so that neither is there when the other is asked for
						if (call.SecretID == arn) == arnSlow {
							time.Sleep(time.Second)
						}
					}})
					ids := []string{"prod/db", arn}
					var wg sync.WaitGroup
					for _, id := range ids {
						wg.Go(func() {
							if s, err := c.Get(t.Context(), id); err != nil || s.Text() != "v1" {
								t.Errorf("Get(%q) = %v, %v", id, s, err)
							}
						})
					}
					wg.Wait()
					calls(t, srv, 2)
					time.Sleep(time.Minute)
					srv.Put("prod/db", "v2")
					if !byARN {
						slices.Reverse(ids)
					}
					if s, err := c.Refresh(t.Context(), ids[1]); err != nil || s.Text() != "v2" {
						t.Errorf("Refresh(%q) = %v, %v, want v2", ids[1], s, err)
					}
					wantText(t, c, ids[0], "v2")
				})
			})
		}
	}
}

// OnChange hears of a change once, whichever of the two found it, also where it was
// found by the read that showed the two to be one.
func TestNameAndARNTellOnChange(t *testing.T) {
	for _, mode := range []cache.Mode{cache.Off, cache.On} {
		for name, test := range map[string]struct{ before, after []string }{
			"ARN, then name": {[]string{"arn"}, []string{"name", "arn"}},
			"name, then ARN": {[]string{"name"}, []string{"arn", "name"}},
			"both, name":     {[]string{"arn", "name"}, []string{"name", "arn"}},
			"both, ARN":      {[]string{"arn", "name"}, []string{"arn", "name"}},
			"name alone":     {[]string{"name"}, []string{"name"}},
			"ARN alone":      {[]string{"name", "arn"}, []string{"arn"}},
		} {
			t.Run(fmt.Sprint(name, ", mode ", mode), func(t *testing.T) {
				var mu sync.Mutex
				var told []string
				opts := &cache.Options{Serverless: mode, OnChange: func(before, now *cache.Secret) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, before.Text()+" -> "+now.Text())
				}}
				named(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
					id := map[string]string{"arn": arn, "name": "prod/db"}
					for _, by := range test.before {
						wantText(t, c, id[by], "v1")
					}
					time.Sleep(time.Minute)
					srv.Put("prod/db", "v2")
					if s, err := c.Refresh(t.Context(), id[test.after[0]]); err != nil || s.Text() != "v2" {
						t.Errorf("Refresh = %v, %v", s, err)
					}
					for _, by := range test.after {
						wantText(t, c, id[by], "v2")
					}
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					if want := []string{"v1 -> v2"}; !slices.Equal(told, want) {
						t.Errorf("OnChange heard %q, want %q", told, want)
					}
				})
			})
		}
	}
}

// And where a rotation fell between two reads at once, one by each.
func TestNameAndARNAtOnceTellOnChange(t *testing.T) {
	for _, byARN := range []bool{false, true} { // the read that comes after the rotation
		t.Run(fmt.Sprint("the ARN last: ", byARN), func(t *testing.T) {
			var mu sync.Mutex
			var told []string
			opts := &cache.Options{OnChange: func(before, now *cache.Secret) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, before.Text()+" -> "+now.Text())
			}}
			named(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
				ids := []string{"prod/db", arn}
				if !byARN {
					slices.Reverse(ids)
				}
				srv.Inject(smtest.Fault{Operation: "GetSecretValue", DelayAnswer: 2 * time.Second})
				var wg sync.WaitGroup
				for i, id := range ids {
					if i > 0 {
						time.Sleep(time.Second)
						srv.Put("prod/db", "v2")
					}
					wg.Go(func() {
						if s, err := c.Get(t.Context(), id); err != nil || s.Text() != fmt.Sprint("v", i+1) {
							t.Errorf("Get(%q) = %v, %v, want v%d", id, s, err, i+1)
						}
					})
					synctest.Wait()
				}
				wg.Wait()
				// Whoever has v1 hears of v2 when it is what there is: now, or when it
				// is next read.
				time.Sleep(6 * time.Minute)
				for _, id := range ids {
					_, _ = c.Get(t.Context(), id)
				}
				time.Sleep(10 * time.Second)
				for _, id := range ids {
					wantText(t, c, id, "v2")
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if want := []string{"v1 -> v2"}; !slices.Equal(told, want) {
					t.Errorf("OnChange heard %q, want %q", told, want)
				}
			})
		})
	}
}

// A partial ARN stands beside a name like another name. It does not come between
// the name and the full ARN: what a forced read by one found, the other has too.
func TestPartialARNDoesNotComeBetween(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		wantText(t, c, partial(arn), "v1")
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		calls(t, srv, 2)
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v2")
		if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
			t.Errorf("Refresh = %v, %v, want v2", s, err)
		}
		wantText(t, c, arn, "v2")
	})
}

// Once they are known to be one, in whichever order, there is one value, one flight
// and one back-off.
func TestNameAndARNShare(t *testing.T) {
	for _, arnFirst := range []bool{false, true} {
		named(t, &cache.Options{MaxStale: time.Minute}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
			ids := []string{"prod/db", arn}
			if arnFirst {
				wantText(t, c, arn, "v1")
				get(t, c, "v1")
			} else {
				get(t, c, "v1")
				wantText(t, c, arn, "v1")
			}
			// A forced read by one is seen by the other.
			for i, id := range []string{arn, "prod/db", arn} {
				time.Sleep(time.Second)
				srv.ResetCalls()
				want := fmt.Sprint("new ", i)
				srv.Put("prod/db", want)
				if s, err := c.Refresh(t.Context(), id); err != nil || s.Text() != want {
					t.Errorf("Refresh(%q) = %v, %v", id, s, err)
				}
				for _, other := range ids {
					wantText(t, c, other, want)
					if s, err := c.Refresh(t.Context(), other); err != nil || s.Text() != want {
						t.Errorf("Refresh(%q) = %v, %v", other, s, err)
					}
				}
				calls(t, srv, 1)
			}

			time.Sleep(5 * time.Minute)
			srv.ResetCalls()
			srv.Put("prod/db", "newest")
			remove := srv.Inject(smtest.Fault{Delay: 500 * time.Millisecond})
			var wg sync.WaitGroup
			for _, id := range slices.Repeat(ids, 10) {
				wg.Go(func() {
					if s, err := c.Get(t.Context(), id); err != nil || s.Text() != "newest" {
						t.Errorf("Get(%q) = %v, %v", id, s, err)
					}
				})
			}
			wg.Wait()
			remove()
			calls(t, srv, 1)

			// One Prefetch of both, which is for one secret.
			time.Sleep(5 * time.Minute)
			srv.ResetCalls()
			wantPrefetched(t, c, arn, "prod/db")
			wantAsked(t, srv, 1, 0)
			if got := srv.Calls()[0].SecretID; strings.Contains(got, ",") {
				t.Errorf("Prefetch asked for %q, which is one secret", got)
			}
			for _, id := range ids {
				wantText(t, c, id, "newest")
			}
			wantAsked(t, srv, 1, 0)

			// A refresh behind the look of one.
			for _, id := range ids {
				time.Sleep(5*time.Minute + 30*time.Second)
				srv.ResetCalls()
				if s, ok := c.Handle(id).Peek(); !ok || s.Text() != "newest" {
					t.Errorf("Peek of %q = %v, %v", id, s, ok)
				}
				synctest.Wait()
				for _, other := range ids {
					if s := wantText(t, c, other, "newest"); s.Age() != 0 {
						t.Errorf("%q is %v old after a refresh behind a Peek of %q", other, s.Age(), id)
					}
				}
				calls(t, srv, 1)
			}

			// A refresh behind the reads of one.
			time.Sleep(5*time.Minute - time.Second)
			srv.ResetCalls()
			for _, id := range ids {
				wantText(t, c, id, "newest")
				synctest.Wait()
			}
			calls(t, srv, 1)

			time.Sleep(6 * time.Minute)
			srv.ResetCalls()
			srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
			for _, id := range slices.Repeat(ids, 10) {
				if _, err := c.Get(t.Context(), id); err == nil {
					t.Errorf("Get(%q) beyond MaxStale succeeded", id)
				}
			}
			calls(t, srv, 1)
		})
	}
}

// What goes for AWSCURRENT goes for the other labels.
func TestNameAnswersForItsARNUnderEveryLabel(t *testing.T) {
	for _, stage := range []string{cache.Pending, cache.Previous, "blue"} {
		named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
			put := func(value string) {
				t.Helper()
				if stage == cache.Previous { // which no one may put, but which follows
					srv.Put("prod/db", value)
					srv.Put("prod/db", "current after "+value)
					return
				}
				in := &secretsmanager.PutSecretValueInput{SecretId: aws.String("prod/db"), SecretString: &value, VersionStages: []string{stage}}
				if _, err := srv.Client().PutSecretValue(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			read := func(id, want string) {
				t.Helper()
				if s, err := c.GetStage(t.Context(), id, stage); err != nil || s.Text() != want {
					t.Errorf("GetStage(%q, %s) = %v, %v, want %s", id, stage, s, err, want)
				}
			}
			put("one")
			wantText(t, c, "prod/db", get(t, c, currentText(t, srv)).Text())
			read("prod/db", "one")
			calls(t, srv, 2)
			read(arn, "one")
			calls(t, srv, 2)

			time.Sleep(time.Minute)
			put("two")
			now := time.Now()
			if s, err := c.RefreshAfter(t.Context(), arn, stage, now); err != nil || s.Text() != "two" {
				t.Errorf("RefreshAfter = %v, %v, want two", s, err)
			}
			read("prod/db", "two")
			calls(t, srv, 3)
		})
		// The ARN first.
		named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
			for _, id := range []string{arn, "prod/db"} {
				if _, err := c.GetStage(t.Context(), id, "green"); !errors.Is(err, cache.ErrNotFound) {
					t.Errorf("GetStage = %v, want ErrNotFound", err)
				}
			}
			calls(t, srv, 2)
		})
	}
}

// currentText is what the service has as AWSCURRENT, read past the call log.
func currentText(t *testing.T, srv *smtest.Server) string {
	t.Helper()
	out, err := srv.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
	if err != nil {
		t.Fatal(err)
	}
	srv.ResetCalls()
	return *out.SecretString
}

// Another account's secret of the same name is another secret, in every order and
// whatever becomes of either.
func TestAccountsDoNotMix(t *testing.T) {
	for name, first := range map[string]int{"own first": 0, "other first": 1} {
		for _, part := range []bool{false, true} {
			twoAccounts(t, fmt.Sprint(name, ", partial ARN: ", part), func(t *testing.T, a *accounts, c *cache.Cache) {
				other := arnOf(t, a.other, "app")
				asked := other
				if part {
					asked = partial(other)
				}
				own := arnOf(t, a.own, "app")
				ids := []string{"app", asked, own, other}
				want := map[string]string{"app": "own", asked: "other", own: "own", other: "other"}
				check := func() {
					t.Helper()
					for i := range ids {
						id := ids[(i+first)%len(ids)]
						wantText(t, c, id, want[id])
						if s, err := c.Handle(id).Get(t.Context()); err != nil || s.Text() != want[id] {
							t.Errorf("Handle(%q).Get = %v, %v, want %q", id, s, err, want[id])
						}
					}
				}
				check()
				check()
				time.Sleep(time.Minute)
				a.other.Put("app", "other new")
				if s, err := c.Refresh(t.Context(), asked); err != nil || s.Text() != "other new" {
					t.Errorf("Refresh = %v, %v", s, err)
				}
				want[asked], want[other] = "other new", "other new"
				if part {
					wantText(t, c, "app", "own")
				} else {
					check()
				}
				time.Sleep(5 * time.Minute)
				a.own.Put("app", "own new")
				want["app"], want[own] = "own new", "own new"
				check()
				c.Invalidate(other)
				n := a.singles
				wantText(t, c, "app", "own new")
				if a.singles != n {
					t.Error("the name was invalidated with another account's ARN")
				}
				check()
			})
		}
	}
}

// The ARN that a name had is not what the name means when the secret was made
// again.
func TestSecretMadeAgain(t *testing.T) {
	remake := func(t *testing.T, srv *smtest.Server) {
		t.Helper()
		in := &secretsmanager.DeleteSecretInput{SecretId: aws.String("prod/db"), ForceDeleteWithoutRecovery: aws.Bool(true)}
		if _, err := srv.Client().DeleteSecret(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		srv.Put("prod/db", "another")
	}
	for name, read := range map[string]func(ctx context.Context, c *cache.Cache, id string) (*cache.Secret, error){
		"Get":     func(ctx context.Context, c *cache.Cache, id string) (*cache.Secret, error) { return c.Get(ctx, id) },
		"Refresh": func(ctx context.Context, c *cache.Cache, id string) (*cache.Secret, error) { return c.Refresh(ctx, id) },
		"Handle": func(ctx context.Context, c *cache.Cache, id string) (*cache.Secret, error) {
			return c.Handle(id).Get(ctx)
		},
		"Prefetch": func(ctx context.Context, c *cache.Cache, id string) (*cache.Secret, error) {
			if err := c.Prefetch(ctx, id); err != nil {
				return nil, err
			}
			return c.Get(ctx, id)
		},
	} {
		for _, arnFirst := range []bool{false, true} {
			for _, partly := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", by ARN first: ", arnFirst, ", partial: ", partly), func(t *testing.T) {
					named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
						alias := "prod/db"
						if partly {
							alias = partial(arn)
						}
						wantText(t, c, alias, "v1")
						wantText(t, c, arn, "v1")
						h := c.Handle(arn)
						remake(t, srv)
						time.Sleep(5 * time.Minute)
						byName := func() {
							t.Helper()
							s, err := read(t.Context(), c, alias)
							if err != nil || s.Text() != "another" || s.ARN() == arn {
								t.Errorf("by name = %v, %v, want the new secret", s, err)
							}
						}
						byARN := func() {
							t.Helper()
							if s, err := read(t.Context(), c, arn); !errors.Is(err, cache.ErrNotFound) {
								t.Errorf("by the old ARN = %v, %v, want ErrNotFound", s, err)
							} else if failed, ok := errors.AsType[*cache.Error](err); !ok || failed.SecretID != arn {
								t.Errorf("%v does not name the ARN", err)
							}
							if s, err := h.Get(t.Context()); !errors.Is(err, cache.ErrNotFound) {
								t.Errorf("by the old ARN's handle = %v, %v, want ErrNotFound", s, err)
							}
							if s, ok := h.Peek(); ok {
								t.Errorf("Peek by the old ARN's handle = %q", s.Text())
							}
						}
						if arnFirst {
							byARN()
						}
						byName()
						byARN()
						byName()
						wantText(t, c, arnOf(t, srv, "prod/db"), "another")
						time.Sleep(time.Hour)
						byARN()
						byName()
					})
				})
			}
		}
	}
}

// Below TTL, and where the new one is found behind a read, the old ARN may still
// have the old value, but not the new one's.
func TestSecretMadeAgainBelowTTL(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		in := &secretsmanager.DeleteSecretInput{SecretId: aws.String("prod/db"), ForceDeleteWithoutRecovery: aws.Bool(true)}
		if _, err := srv.Client().DeleteSecret(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		srv.Put("prod/db", "another")
		h := c.Handle(arn)
		begin := time.Now()
		for time.Since(begin) < 15*time.Minute {
			s, err := c.Get(t.Context(), arn)
			if err == nil && (s.Text() != "v1" || time.Since(begin) >= 5*time.Minute) {
				t.Fatalf("Get of the old ARN = %q after %v", s.Text(), time.Since(begin))
			}
			if s, ok := h.Peek(); ok && s.Text() != "v1" {
				t.Fatalf("Peek of the old ARN = %q after %v", s.Text(), time.Since(begin))
			}
			_, _ = c.Get(t.Context(), "prod/db")
			synctest.Wait()
			time.Sleep(5 * time.Second)
		}
		get(t, c, "another")
	})
}

// What a name means under one label says nothing of what it meant when another was
// read.
func TestSecretMadeAgainUnderALabel(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		get(t, c, "v1")
		in := &secretsmanager.DeleteSecretInput{SecretId: aws.String("prod/db"), ForceDeleteWithoutRecovery: aws.Bool(true)}
		if _, err := srv.Client().DeleteSecret(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		srv.Put("prod/db", "another")
		put := &secretsmanager.PutSecretValueInput{SecretId: aws.String("prod/db"), SecretString: aws.String("another blue"), VersionStages: []string{"blue"}}
		if _, err := srv.Client().PutSecretValue(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if s, err := c.GetStage(t.Context(), "prod/db", "blue"); err != nil || s.Text() != "another blue" {
				t.Errorf("GetStage by name = %v, %v", s, err)
			}
			if s, err := c.GetStage(t.Context(), arn, "blue"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("GetStage by the old ARN = %v, %v, want ErrNotFound", s, err)
			}
			wantText(t, c, arn, "v1") // below TTL
		}
	})
}

// What a deleted secret's readers get names the ID that each of them gave.
func TestErrorsNameTheIDAsGiven(t *testing.T) {
	denied := &smtest.Error{Code: "AccessDeniedException", Message: "No."} // the remedy names the ID, then
	for _, fault := range []*smtest.Error{denied, smtest.InternalServiceError} {
		named(t, &cache.Options{MaxStale: -1, MinRefresh: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
			get(t, c, "v1")
			wantText(t, c, arn, "v1")
			time.Sleep(5 * time.Minute)
			srv.Inject(smtest.Fault{Err: fault})
			for _, id := range []string{arn, "prod/db"} {
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				h := c.Handle(id)
				for name, err := range map[string]error{
					"Get":          second(c.Get(t.Context(), id)),
					"Get again":    second(c.Get(t.Context(), id)),
					"Refresh":      second(c.Refresh(t.Context(), id)),
					"canceled":     second(c.Refresh(ended, id)),
					"RefreshIf":    second(c.RefreshIf(t.Context(), id, "")),
					"RefreshAfter": second(c.RefreshAfter(t.Context(), id, cache.Current, time.Now())),
					"GetStage":     second(c.GetStage(t.Context(), id, cache.Pending)),
					"GetVersion":   second(c.GetVersion(t.Context(), id, "no version")),
					"Handle.Get":   second(h.Get(t.Context())),
					"Status":       h.Status().Err,
					"Prefetch":     joinedErrors(t, c.Prefetch(t.Context(), id))[id],
					"JSON":         second(cache.JSON[map[string]string](c, id).Get(t.Context())),
				} {
					failed, ok := errors.AsType[*cache.Error](err)
					if !ok || failed == nil {
						t.Errorf("%s of %q: %v is no *cache.Error", name, id, err)
						continue
					}
					if failed.SecretID != id || !strings.Contains(failed.Error(), fmt.Sprintf("secret %q", id)) {
						t.Errorf("%s of %q: the error names %q", name, id, failed.SecretID)
					}
					if fault == denied && name != "canceled" && !strings.Contains(failed.Remedy(), " on "+id+" in ") {
						t.Errorf("%s of %q: the remedy is %q", name, id, failed.Remedy())
					}
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// An ARN that stands by itself again, because the name's entry had to go, still
// speaks of itself.
func TestErrorsNameTheIDAfterEviction(t *testing.T) {
	for _, room := range []int{2, 3, 4} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			named(t, &cache.Options{MaxEntries: room}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
				others := putApps(srv, 6)
				get(t, c, "v1")
				for range 3 {
					wantText(t, c, arn, "v1")
				}
				time.Sleep(5 * time.Minute)
				srv.Inject(smtest.Fault{SecretID: "prod/db", Err: smtest.AccessDenied})
				for _, id := range append([]string{"prod/db"}, others...) {
					_, _ = c.Get(t.Context(), id)
					_, err := c.Get(t.Context(), arn)
					if failed, ok := errors.AsType[*cache.Error](err); !ok || failed.SecretID != arn {
						t.Errorf("Get by the ARN, %d entries having gone: %v", c.Stats().Evictions, err)
					}
				}
			})
		})
	}
}

func TestPartialARN(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		s := wantText(t, c, partial(arn), "v1")
		if s.ARN() != arn {
			t.Errorf("ARN() = %q, want the full one", s.ARN())
		}
		wantText(t, c, arn, "v1") // it answers for the full one, as a name does
		calls(t, srv, 1)
		get(t, c, "v1") // but not for the name
		calls(t, srv, 2)
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v2")
		if s, err := c.Refresh(t.Context(), partial(arn)); err != nil || s.Text() != "v2" {
			t.Errorf("Refresh = %v, %v", s, err)
		}
		wantText(t, c, arn, "v2")
		c.Invalidate("prod/db")
		for _, id := range []string{"prod/db", arn, partial(arn)} {
			wantText(t, c, id, "v2")
		}
	})
}

// A name may end in what looks like an ARN's suffix. Nothing is told from looks.
func TestNameLikeAnARN(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		srv.Put("prod/db-abc123", "long")
		srv.Put("prod", "short")
		long := arnOf(t, srv, "prod/db-abc123")
		want := map[string]string{
			"prod/db": "v1", arn: "v1", partial(arn): "v1",
			"prod/db-abc123": "long", long: "long",
			"prod": "short", arnOf(t, srv, "prod"): "short",
		}
		for i := range 20 { // maps come in any order
			c.Invalidate("prod/db")
			c.Invalidate("prod/db-abc123")
			switch i % 4 {
			case 0:
				wantPrefetched(t, c, slices.Collect(maps.Keys(want))...)
			case 1:
				wantPrefetched(t, c, partial(arn), long)
			case 2:
				wantPrefetched(t, c, "prod/db-abc123", partial(arn))
			}
			for id, text := range want {
				wantText(t, c, id, text)
			}
			// What the service takes for a full ARN is one, and means nothing here.
			if s, err := c.Get(t.Context(), partial(long)); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Get(%q) = %v, %v, want ErrNotFound", partial(long), s, err)
			}
		}
	})
}

// Invalidate forgets a secret by whichever of its names.
func TestInvalidateByNameAndByARN(t *testing.T) {
	for _, arnFirst := range []bool{false, true} {
		for _, byARN := range []bool{false, true} {
			named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
				ids := []string{"prod/db", arn}
				if arnFirst {
					slices.Reverse(ids)
				}
				srv.Put("prod/db", "v2")
				var versions []string
				for _, id := range ids {
					versions = append(versions, wantText(t, c, id, "v2").VersionID())
					if s, err := c.GetStage(t.Context(), id, cache.Previous); err != nil || s.Text() != "v1" {
						t.Errorf("GetStage(%q) = %v, %v", id, s, err)
					}
				}
				by := "prod/db"
				if byARN {
					by = arn
				}
				srv.Put("prod/db", "v3")
				c.Invalidate(by)
				for _, id := range slices.Backward(ids) {
					if s, ok := c.Handle(id).Peek(); ok {
						t.Errorf("Peek of %q after Invalidate(%q) = %q", id, by, s.Text())
					}
				}
				for _, id := range slices.Backward(ids) {
					wantText(t, c, id, "v3")
					if s, err := c.GetStage(t.Context(), id, cache.Previous); err != nil || s.Text() != "v2" {
						t.Errorf("GetStage(%q) after Invalidate(%q) = %v, %v, want v2", id, by, s, err)
					}
					// And no version of it is held but what has been read since.
					n := srv.Count("")
					if s, err := c.GetVersion(t.Context(), id, versions[0]); err != nil || s.Text() != "v2" || srv.Count("") == n {
						t.Errorf("GetVersion(%q) after Invalidate(%q) = %v, %v, calls %d", id, by, s, err, srv.Count("")-n)
					}
				}
			})
		}
	}
}

// A call that began before an Invalidate by the other name does not bring the value
// back.
func TestInvalidateByARNDuringACallByName(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{DelayAnswer: 500 * time.Millisecond, Times: 1})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Get(t.Context(), arn) })
		synctest.Wait()
		srv.Put("prod/db", "v2")
		c.Invalidate(arn)
		wantText(t, c, arn, "v2")
		get(t, c, "v2")
		wg.Wait()
		get(t, c, "v2")
		wantText(t, c, arn, "v2")
	})
}

// A Handle is valid as long as the Cache, whatever had to go from it meanwhile: it
// sees what a forced read and an Invalidate do.
func TestHandleAfterEviction(t *testing.T) {
	for _, by := range []string{"name", "ARN", "ARN of a name"} {
		t.Run(by, func(t *testing.T) {
			named(t, &cache.Options{MaxEntries: 2, MinRefresh: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
				others := putApps(srv, 8)
				id := arn
				if by == "name" {
					id = "prod/db"
				}
				if by == "ARN of a name" {
					get(t, c, "v1")
				}
				h := c.Handle(id)
				check := func(after, want string) {
					t.Helper()
					s, err := h.Get(t.Context())
					if err != nil {
						t.Fatalf("Handle.Get after %s: %v", after, err)
					}
					if s.Text() != want {
						t.Errorf("Handle.Get after %s = %q, want %q", after, s.Text(), want)
					}
				}
				evict := func() {
					t.Helper()
					for _, other := range others {
						wantText(t, c, other, valueOf(other))
						wantText(t, c, other, valueOf(other)) // what is read but once goes first
					}
					for held := range c.Statuses() {
						if held == id {
							t.Fatalf("%q was not evicted", id)
						}
					}
				}
				check("New", "v1")
				evict()
				srv.Put("prod/db", "v2")
				if s, err := c.Refresh(t.Context(), id); err != nil || s.Text() != "v2" {
					t.Errorf("Refresh = %v, %v", s, err)
				}
				check("Refresh", "v2")
				evict()
				srv.Put("prod/db", "v3")
				c.Invalidate(id)
				check("Invalidate", "v3")
			})
		})
	}
}

// While entries come and go, a secret's names and ARNs have one value, and their own.
func TestNamesAndARNsUnderEviction(t *testing.T) {
	for _, room := range []int{2, 3, 4, 5, -1} {
		for seed := range uint64(4) {
			synctest.Test(t, func(t *testing.T) {
				srv := smtest.New(nil)
				defer srv.Close()
				c, err := cache.New(srv.Client(noRetry), &cache.Options{MaxEntries: room, MinRefresh: -1})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				names := []string{"a", "b", "c"}
				arns := map[string]string{}
				now := map[string]int{} // the number in the newest value
				for _, name := range names {
					srv.Put(name, name+" 0")
					arns[name] = arnOf(t, srv, name)
				}
				random := rand.New(rand.NewPCG(seed, uint64(room))) // to be repeatable
				seen := map[string]int{}                            // the newest that was read under an ID
				check := func(what, name, id string, s *cache.Secret, err error, least int) {
					t.Helper()
					if err != nil {
						t.Fatalf("room %d, seed %d: %s(%q): %v", room, seed, what, id, err)
					}
					var number int
					if _, err := fmt.Sscanf(s.Text(), name+" %d", &number); err != nil || number < least || s.ARN() != arns[name] {
						t.Fatalf("room %d, seed %d: %s(%q) = %q of %s, want at least %s %d", room, seed, what, id, s.Text(), s.ARN(), name, least)
					}
					seen[id] = max(seen[id], number)
				}
				for range 200 {
					name := names[random.IntN(len(names))]
					ids := []string{name, arns[name]}
					random.Shuffle(2, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
					switch random.IntN(6) {
					case 0:
						now[name]++
						srv.Put(name, fmt.Sprint(name, " ", now[name]))
						time.Sleep(time.Millisecond) // versions are told apart by their time
					case 1:
						s, err := c.Refresh(t.Context(), ids[0])
						check("Refresh", name, ids[0], s, err, now[name])
						if ids[0] == name { // it is known to mean the ARN
							s, err = c.Get(t.Context(), ids[1])
							check("Get after Refresh by name", name, ids[1], s, err, now[name])
						}
					case 2:
						c.Invalidate(name)
						s, err := c.Get(t.Context(), name)
						check("Get after Invalidate", name, name, s, err, now[name])
					case 3:
						time.Sleep(time.Minute)
					default:
						s, err := c.Get(t.Context(), ids[0])
						check("Get", name, ids[0], s, err, seen[ids[0]])
					}
					synctest.Wait() // a refresh behind the read is an order of its own, see TestNameAndARNAtOnce
					if got := c.Stats().Entries; room > 0 && got > room {
						t.Fatalf("room %d: %d entries", room, got)
					}
				}
			})
		}
	}
}

// The same by many at once, for the race detector: nobody gets another's value, and
// in the end all names agree.
func TestNamesAndARNsConcurrently(t *testing.T) {
	for _, room := range []int{3, 100} {
		srv := smtest.New(nil)
		defer srv.Close()
		c := newCache(t, srv, &cache.Options{MaxEntries: room, MinRefresh: -1, TTL: time.Millisecond})
		ids := map[string]string{}
		for _, name := range []string{"a", "b", "c"} {
			srv.Put(name, name)
			ids[name] = name
			arn := arnOf(t, srv, name)
			ids[arn], ids[partial(arn)] = name, name
		}
		handles := map[string]*cache.Handle{}
		for id := range ids {
			handles[id] = c.Handle(id)
		}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				for j := range 15 {
					for id, name := range ids {
						var s *cache.Secret
						var err error
						switch (i + j) % 5 {
						case 0:
							s, err = c.Refresh(t.Context(), id)
						case 1:
							c.Invalidate(id)
							s, err = c.GetStage(t.Context(), id, cache.Current)
						case 2:
							s, err = handles[id].Get(t.Context())
						case 3:
							if err = c.Prefetch(t.Context(), id, "a"); err == nil {
								s, err = c.Get(t.Context(), id)
							}
						default:
							if i == 0 {
								srv.Put(name, name+strings.Repeat("+", j))
							}
							s, err = c.Get(t.Context(), id)
						}
						if err != nil || strings.TrimRight(s.Text(), "+") != name {
							t.Errorf("read of %q = %v, %v, want %s", id, s, err, name)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		for id, name := range ids {
			srv.Put(name, name+" in the end")
			c.Invalidate(id)
			wantText(t, c, id, name+" in the end")
		}
	}
}

// scope returns the Region that a request is signed for.
func scope(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if parts := strings.Split(rest, "/"); len(parts) > 3 {
		return parts[2]
	}
	return ""
}

// A world is an HTTP client that brings each request to the server of the Region
// that it is signed for.
type world struct {
	servers map[string]*smtest.Server

	mu    sync.Mutex
	asked []string // Region and operation of each request
}

func (w *world) Do(r *http.Request) (*http.Response, error) {
	region := scope(r)
	w.mu.Lock()
	w.asked = append(w.asked, region+" "+strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager."))
	w.mu.Unlock()
	srv := w.servers[region]
	if srv == nil || !strings.Contains(r.URL.Host, "."+region+".") {
		return nil, fmt.Errorf("a request signed for %q went to %s", region, r.URL.Host)
	}
	return srv.Client().Options().HTTPClient.Do(r)
}

func (w *world) client(region string) *secretsmanager.Client {
	return w.servers[region].Client(noRetry, func(o *secretsmanager.Options) { o.HTTPClient = w })
}

// took returns the requests since it was last asked.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	slices.Sort(asked)
	return asked
}

func newWorld(t *testing.T, regions ...string) *world {
	t.Helper()
	w := &world{servers: make(map[string]*smtest.Server)}
	for _, region := range regions {
		srv := smtest.New(&smtest.Options{Region: region})
		t.Cleanup(srv.Close)
		srv.Put("app", "app in "+region)
		for i := range 3 {
			srv.Put(fmt.Sprint(region, "/", i), fmt.Sprint(region, " ", i))
		}
		w.servers[region] = srv
	}
	return w
}

// arns returns the ARNs of a Region's secrets.
func (w *world) arns(t *testing.T, region string) []string {
	t.Helper()
	ids := []string{arnOf(t, w.servers[region], "app")}
	for i := range 3 {
		ids = append(ids, arnOf(t, w.servers[region], fmt.Sprint(region, "/", i)))
	}
	return ids
}

// An ARN is asked for where it says, with the client given to New or with that of
// ClientFor.
func TestARNOfAnotherRegion(t *testing.T) {
	for name, clientFor := range map[string]func(*world) func(string) cache.API{
		"the same client": func(*world) func(string) cache.API { return nil },
		"ClientFor": func(w *world) func(string) cache.API {
			return func(region string) cache.API { return w.client(region) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "us-east-1", "eu-west-1", "us-gov-west-1")
			c, err := cache.New(w.client("us-east-1"), &cache.Options{ClientFor: clientFor(w), MinRefresh: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			gov := w.arns(t, "us-gov-west-1")
			for _, test := range []struct{ id, want, region string }{
				{w.arns(t, "eu-west-1")[0], "app in eu-west-1", "eu-west-1"},
				{"app", "app in us-east-1", "us-east-1"},
				{partial(w.arns(t, "eu-west-1")[1]), "eu-west-1 0", "eu-west-1"},
				{gov[0], "app in us-gov-west-1", "us-gov-west-1"},
				{w.arns(t, "us-east-1")[1], "us-east-1 0", "us-east-1"},
			} {
				w.took()
				wantText(t, c, test.id, test.want)
				if s, err := c.GetStage(t.Context(), test.id, "none"); !errors.Is(err, cache.ErrNotFound) {
					t.Errorf("GetStage = %v, %v", s, err)
				}
				if s, err := c.Refresh(t.Context(), test.id); err != nil || s.Text() != test.want {
					t.Errorf("Refresh = %v, %v", s, err)
				}
				if got, want := w.took(), slices.Repeat([]string{test.region + " GetSecretValue"}, 3); !slices.Equal(got, want) {
					t.Errorf("reads of %q made the calls %q, want %q", test.id, got, want)
				}
			}
			// A Region's name stays its own.
			wantText(t, c, "app", "app in us-east-1")
			if s, err := c.Get(t.Context(), "eu-west-1/1"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Get of a name of another Region = %v, %v", s, err)
			}
		})
	}
}

// Prefetch makes one batch for each Region, with the client of each.
func TestPrefetchOfSeveralRegions(t *testing.T) {
	for name, clientFor := range map[string]func(*world) func(string) cache.API{
		"the same client": func(*world) func(string) cache.API { return nil },
		"ClientFor": func(w *world) func(string) cache.API {
			return func(region string) cache.API { return w.client(region) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "us-east-1", "eu-west-1")
			c, err := cache.New(w.client("us-east-1"), &cache.Options{ClientFor: clientFor(w)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want := map[string]string{"app": "app in us-east-1"}
			for _, region := range []string{"us-east-1", "eu-west-1"} {
				for i, arn := range w.arns(t, region)[1:] {
					want[arn] = fmt.Sprint(region, " ", i)
				}
			}
			want[w.arns(t, "eu-west-1")[0]] = "app in eu-west-1"
			wantPrefetched(t, c, slices.Collect(maps.Keys(want))...)
			if got, want := w.took(), []string{"eu-west-1 BatchGetSecretValue", "us-east-1 BatchGetSecretValue"}; !slices.Equal(got, want) {
				t.Errorf("calls %q, want %q", got, want)
			}
			for id, text := range want {
				wantText(t, c, id, text)
			}
			if got := w.took(); len(got) != 0 {
				t.Errorf("calls %q for what is held", got)
			}
		})
	}
}

// One Region that fails is not the others' trouble.
func TestPrefetchOfARegionThatFails(t *testing.T) {
	w := newWorld(t, "us-east-1", "eu-west-1")
	c, err := cache.New(w.client("us-east-1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	abroad := w.arns(t, "eu-west-1")
	w.servers["eu-west-1"].Inject(smtest.Fault{Err: smtest.InternalServiceError})
	failed := joinedErrors(t, c.Prefetch(t.Context(), append(abroad, "us-east-1/0", "app")...))
	if len(failed) != len(abroad) || failed["app"] != nil || failed["us-east-1/0"] != nil {
		t.Errorf("Prefetch: %v, want an error for each ARN of eu-west-1", failed)
	}
	w.took()
	wantText(t, c, "us-east-1/0", "us-east-1 0")
	wantText(t, c, "app", "app in us-east-1")
	if got := w.took(); len(got) != 0 {
		t.Errorf("calls %q for what is held", got)
	}
}

// ClientFor is asked once per Region, however many want to know, and not for the
// Region of the client that there is.
func TestClientForIsAskedOncePerRegion(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, c *cache.Cache, ids []string) error{
		"one after the other": func(ctx context.Context, c *cache.Cache, ids []string) error {
			for _, id := range ids {
				if _, err := c.Get(ctx, id); err != nil {
					return err
				}
			}
			return nil
		},
		"at once": func(ctx context.Context, c *cache.Cache, ids []string) error {
			errs := make([]error, len(ids))
			var wg sync.WaitGroup
			for i, id := range ids {
				wg.Go(func() { _, errs[i] = c.Get(ctx, id) })
			}
			wg.Wait()
			return errors.Join(errs...)
		},
		"Prefetch": func(ctx context.Context, c *cache.Cache, ids []string) error { return c.Prefetch(ctx, ids...) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "us-east-1", "eu-west-1", "eu-north-1")
			var mu sync.Mutex
			var asked []string
			c, err := cache.New(w.client("us-east-1"), &cache.Options{ClientFor: func(region string) cache.API {
				mu.Lock()
				asked = append(asked, region)
				mu.Unlock()
				// It takes its time, for others to come: in a bubble they could not
				// wait for a lock meanwhile.
				for range 1000 {
					runtime.Gosched()
				}
				return w.client(region)
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ids := slices.Concat([]string{"app"}, w.arns(t, "us-east-1"), w.arns(t, "eu-west-1"), w.arns(t, "eu-north-1"))
			if err := read(t.Context(), c, ids); err != nil {
				t.Error(err)
			}
			slices.Sort(asked)
			if want := []string{"eu-north-1", "eu-west-1"}; !slices.Equal(asked, want) {
				t.Errorf("ClientFor was asked for %q, want %q", asked, want)
			}
		})
	}
}

func TestClientForWithoutAClient(t *testing.T) {
	w := newWorld(t, "us-east-1", "eu-west-1")
	c, err := cache.New(w.client("us-east-1"), &cache.Options{ClientFor: func(string) cache.API { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	abroad := w.arns(t, "eu-west-1")
	want := `Options.ClientFor returned no client for the Region "eu-west-1"`
	w.took()
	if _, err := c.Get(t.Context(), abroad[0]); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), abroad[0]) {
		t.Errorf("Get: %v, want %q", err, want)
	}
	failed := joinedErrors(t, c.Prefetch(t.Context(), abroad[1], "app", abroad[2]))
	if len(failed) != 2 || failed["app"] != nil {
		t.Errorf("Prefetch: %v", failed)
	}
	for id, err := range failed {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Prefetch of %q: %v, want %q", id, err, want)
		}
	}
	wantText(t, c, "app", "app in us-east-1")
	if got := w.took(); !slices.Equal(got, []string{"us-east-1 BatchGetSecretValue"}) {
		t.Errorf("calls %q", got)
	}
}

// A client that is none of the SDK's knows no Regions: it gets everything, and is
// not told to go elsewhere.
func TestOtherClientsGetEverything(t *testing.T) {
	arn := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
	static := cache.Static(map[string]string{arn: "static", "app": "other"})
	for name, wrapped := range map[string]bool{"Static": false, "a wrapper": true} {
		var asked []string
		client := static
		if wrapped {
			client = clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
				o := secretsmanager.Options{Region: "its own"}
				for _, f := range opts {
					f(&o)
				}
				asked = append(asked, *in.SecretId+" in "+o.Region)
				return static.GetSecretValue(ctx, in, opts...)
			})
		}
		c, err := cache.New(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, c, arn, "static")
		wantText(t, c, "app", "other")
		c.Close()
		if want := []string{arn + " in its own", "app in its own"}; wrapped && !slices.Equal(asked, want) {
			t.Errorf("%s was asked for %q, want %q", name, asked, want)
		}
	}
}

// A homeland is a Region with replicas in others: its secrets are the same
// everywhere but for the Region in their ARNs. It is made of one server, which is
// told, and told of, home alone.
type homeland struct {
	srv *smtest.Server

	mu    sync.Mutex
	down  map[string]func(*http.Request) (*http.Response, error) // what happens to a Region's requests instead
	asked []string                                               // the Region of each request
}

const home, away, afar = "us-east-1", "eu-west-1", "ap-south-1"

func (h *homeland) Do(r *http.Request) (*http.Response, error) {
	region := scope(r)
	h.mu.Lock()
	h.asked = append(h.asked, region)
	down := h.down[region]
	h.mu.Unlock()
	if down != nil {
		return down(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	// An ARN of home is not known elsewhere.
	if region != home && bytes.Contains(body, []byte(":"+home+":")) {
		body = bytes.ReplaceAll(body, []byte(":"+home+":"), []byte(":nowhere:"))
	}
	body = bytes.ReplaceAll(body, []byte(":"+region+":"), []byte(":"+home+":"))
	there := r.Clone(r.Context())
	there.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/"+region+"/", "/"+home+"/", 1))
	there.Body, there.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	out, err := h.srv.Client().Options().HTTPClient.Do(there)
	if err != nil {
		return nil, err
	}
	if body, err = io.ReadAll(out.Body); err != nil {
		return nil, err
	}
	body = bytes.ReplaceAll(body, []byte(":"+home+":"), []byte(":"+region+":"))
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return out, nil
}

func (h *homeland) client(region string) *secretsmanager.Client {
	return h.srv.Client(noRetry, func(o *secretsmanager.Options) { o.HTTPClient, o.Region = h, region })
}

// set says what happens to a Region's requests from now on; nil: they are answered.
func (h *homeland) set(region string, down func(*http.Request) (*http.Response, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down[region] = down
}

// took returns the Regions that were asked since took was.
func (h *homeland) took() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := strings.Join(h.asked, " ")
	h.asked = nil
	return asked
}

// faultyRegion answers requests as a server of the Region does on which f lies.
func faultyRegion(region string, f smtest.Fault) func(*http.Request) (*http.Response, error) {
	srv := smtest.New(&smtest.Options{Region: region})
	srv.Inject(f)
	return srv.Client().Options().HTTPClient.Do
}

// outages are the ways in which a Region fails.
func outages() map[string]func(*http.Request) (*http.Response, error) {
	return map[string]func(*http.Request) (*http.Response, error){
		"500":       faultyRegion(home, smtest.Fault{Err: smtest.InternalServiceError}),
		"throttled": faultyRegion(home, smtest.Fault{Err: smtest.Throttling}),
		"503": func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"text/html"}},
				Body: io.NopCloser(strings.NewReader("<html>")), Request: r,
			}, nil
		},
		"hung":             faultyRegion(home, smtest.Fault{Delay: time.Hour}),
		"connection error": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
	}
}

// withReplicas runs f in a bubble with prod/db = v1 at home and its replicas away
// and afar, of which a cache knows.
func withReplicas(t *testing.T, name string, opts cache.Options, f func(t *testing.T, h *homeland, c *cache.Cache, arn string)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &homeland{srv: smtest.New(nil), down: make(map[string]func(*http.Request) (*http.Response, error))}
			defer h.srv.Close()
			h.srv.Put("prod/db", "v1")
			opts.Replicas = []cache.API{h.client(away), h.client(afar)}
			c, err := cache.New(h.client(home), &opts)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f(t, h, c, arnOf(t, h.srv, "prod/db"))
		})
	})
}

// Where home does not answer a replica does, by whatever name, label or version.
func TestReplicaAnswersWhereHomeFails(t *testing.T) {
	for outage, down := range outages() {
		for _, test := range []struct {
			name, want string
			read       func(ctx context.Context, c *cache.Cache, arn, v1 string) (*cache.Secret, error)
		}{
			{"Get by name", "v2", func(ctx context.Context, c *cache.Cache, _, _ string) (*cache.Secret, error) {
				return c.Get(ctx, "prod/db")
			}},
			{"Get by ARN", "v2", func(ctx context.Context, c *cache.Cache, arn, _ string) (*cache.Secret, error) {
				return c.Get(ctx, arn)
			}},
			{"Get by partial ARN", "v2", func(ctx context.Context, c *cache.Cache, arn, _ string) (*cache.Secret, error) {
				return c.Get(ctx, partial(arn))
			}},
			{"Refresh by name", "v2", func(ctx context.Context, c *cache.Cache, _, _ string) (*cache.Secret, error) {
				return c.Refresh(ctx, "prod/db")
			}},
			{"Refresh by ARN", "v2", func(ctx context.Context, c *cache.Cache, arn, _ string) (*cache.Secret, error) {
				return c.Refresh(ctx, arn)
			}},
			{"AWSPREVIOUS by name", "v1", func(ctx context.Context, c *cache.Cache, _, _ string) (*cache.Secret, error) {
				return c.GetStage(ctx, "prod/db", cache.Previous)
			}},
			{"AWSPREVIOUS by ARN", "v1", func(ctx context.Context, c *cache.Cache, arn, _ string) (*cache.Secret, error) {
				return c.GetStage(ctx, arn, cache.Previous)
			}},
			{"GetVersion by name", "v1", func(ctx context.Context, c *cache.Cache, _, v1 string) (*cache.Secret, error) {
				return c.GetVersion(ctx, "prod/db", v1)
			}},
			{"GetVersion by ARN", "v1", func(ctx context.Context, c *cache.Cache, arn, v1 string) (*cache.Secret, error) {
				return c.GetVersion(ctx, arn, v1)
			}},
		} {
			withReplicas(t, outage+", "+test.name, cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
				v1 := h.srv.Put("prod/db", "v1")
				h.srv.Put("prod/db", "v2")
				h.set(home, down)
				start := time.Now()
				s, err := test.read(t.Context(), c, arn, v1)
				if err != nil || s.Text() != test.want || s.ARN() != strings.Replace(arn, home, away, 1) {
					t.Fatalf("%v, %v, want %s of the replica", s, err, test.want)
				}
				took := time.Since(start)
				if got := h.took(); got != home+" "+away || outage != "hung" && took != 0 || took > 10*time.Second {
					t.Errorf("asked in %q, in %v; want home first, then away", got, took)
				}
				// A success is one: it is held.
				if s, err := test.read(t.Context(), c, arn, v1); strings.HasPrefix(test.name, "Refresh") {
					return
				} else if err != nil || s.Text() != test.want {
					t.Errorf("again: %v, %v", s, err)
				}
				if got := h.took(); got != "" {
					t.Errorf("what a replica brought is not held: %s was asked", got)
				}
			})
		}
	}
}

// What home says is not overruled by a replica.
func TestReplicaIsNotAskedWhatHomeAnswers(t *testing.T) {
	for _, test := range []*smtest.Error{
		smtest.AccessDenied, smtest.AccessDeniedByKMS,
		{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret."},
		{Code: "InvalidRequestException", Message: "It was marked for deletion."},
		{Code: "DecryptionFailure", Message: "no"},
	} {
		withReplicas(t, test.Code+" "+test.Message[:2], cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
			h.set(home, faultyRegion(home, smtest.Fault{Err: test}))
			for _, id := range []string{"prod/db", arn} {
				if s, err := c.Get(t.Context(), id); err == nil || !strings.Contains(err.Error(), test.Code) {
					t.Errorf("Get(%q) = %v, %v, want %s", id, s, err, test.Code)
				}
				if got := h.took(); got != home {
					t.Errorf("%q was asked for in %q, want home alone", id, got)
				}
			}
		})
	}
}

// The replicas are asked in their order, all within the time that one read may take,
// and if none answers the error is home's.
func TestReplicasInTheirOrder(t *testing.T) {
	hung := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	withReplicas(t, "the second answers", cache.Options{FetchTimeout: 9 * time.Second}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
		h.set(home, hung)
		h.set(away, hung)
		for _, id := range []string{"prod/db", arn} {
			start := time.Now()
			s := wantText(t, c, id, "v1")
			if took := time.Since(start); s.ARN() != strings.Replace(arn, home, afar, 1) || took > 9*time.Second {
				t.Errorf("Get(%q) = %s after %v, want the second replica's within 9s", id, s.ARN(), took)
			}
			if got := h.took(); got != home+" "+away+" "+afar {
				t.Errorf("%q was asked for in %q", id, got)
			}
			if s.Age() != time.Since(start) { // counted from the first call: there is no value that is older
				t.Errorf("Age() = %v, want %v", s.Age(), time.Since(start))
			}
		}
	})
	for name, down := range outages() {
		withReplicas(t, "none answers, home "+name, cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
			h.set(home, down)
			h.set(away, faultyRegion(away, smtest.Fault{Err: smtest.AccessDenied}))
			h.set(afar, faultyRegion(afar, smtest.Fault{}))
			for _, id := range []string{"prod/db", arn} {
				_, err := c.Get(t.Context(), id)
				failed, ok := errors.AsType[*cache.Error](err)
				if !ok || !failed.Transient || failed.SecretID != id || errors.Is(err, cache.ErrNotFound) || strings.Contains(err.Error(), "AccessDenied") {
					t.Errorf("Get(%q): %v, want home's error", id, err)
				}
				if got := h.took(); got != home+" "+away+" "+afar {
					t.Errorf("%q was asked for in %q", id, got)
				}
			}
		})
	}
	withReplicas(t, "all hang", cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
		for _, region := range []string{home, away, afar} {
			h.set(region, hung)
		}
		start := time.Now()
		_, err := c.Get(t.Context(), arn)
		if err == nil || !strings.Contains(err.Error(), "no answer within") || errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("Get: %v after %v, want no answer after the 10s of FetchTimeout", err, time.Since(start))
		}
		if got := h.took(); got != home+" "+away+" "+afar {
			t.Errorf("asked in %q: each is to have its part of the time", got)
		}
	})
}

// When home comes back it is asked first again, and what the names mean is what it
// says.
func TestHomeComesBack(t *testing.T) {
	withReplicas(t, "", cache.Options{MinRefresh: -1}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		h.set(home, faultyRegion(home, smtest.Fault{Err: smtest.InternalServiceError}))
		for range 3 {
			time.Sleep(5 * time.Minute)
			h.took()
			get(t, c, "v1")
			wantText(t, c, arn, "v1")
			if got := h.took(); got != home+" "+away {
				t.Errorf("asked in %q, want once for both", got)
			}
		}
		h.set(home, nil)
		h.srv.Put("prod/db", "v2")
		time.Sleep(5 * time.Minute)
		h.took()
		if s := get(t, c, "v2"); s.ARN() != arn {
			t.Errorf("ARN() = %q, want home's", s.ARN())
		}
		wantText(t, c, arn, "v2")
		if got := h.took(); got != home {
			t.Errorf("asked in %q, want home once", got)
		}
		// From one replica to the other it is the same secret too.
		h.set(home, faultyRegion(home, smtest.Fault{Err: smtest.InternalServiceError}))
		time.Sleep(5 * time.Minute)
		get(t, c, "v2")
		h.set(away, faultyRegion(away, smtest.Fault{Err: smtest.InternalServiceError}))
		h.srv.Put("prod/db", "v3")
		time.Sleep(5 * time.Minute)
		get(t, c, "v3")
		wantText(t, c, arn, "v3")
	})
}

// A replica's ARN, which a read by name returned, is not what the name means at
// home: the replica is asked for it.
func TestReplicasARNIsNotTheNames(t *testing.T) {
	withReplicas(t, "", cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
		h.set(home, faultyRegion(home, smtest.Fault{Err: smtest.InternalServiceError}))
		there := get(t, c, "v1").ARN()
		h.took()
		wantText(t, c, there, "v1")
		if got := h.took(); got != away {
			t.Errorf("the ARN that a replica had told was asked for in %q, want away", got)
		}
		if there == arn {
			t.Error("the replica answered with home's ARN")
		}
	})
}

// A secret of the same name in the replica's Region that is none of home's
// replicas never answers once it is known which secret home means.
func TestAnotherSecretWhereTheReplicaShouldBe(t *testing.T) {
	down := faultyRegion(home, smtest.Fault{Err: smtest.InternalServiceError})
	for name, read := range map[string]func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error){
		"beyond MaxStale, by name": func(ctx context.Context, c *cache.Cache, _ string) (*cache.Secret, error) {
			time.Sleep(48 * time.Hour)
			return c.Get(ctx, "prod/db")
		},
		"beyond MaxStale, by ARN": func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error) {
			time.Sleep(48 * time.Hour)
			return c.Get(ctx, arn)
		},
		"Refresh by name": func(ctx context.Context, c *cache.Cache, _ string) (*cache.Secret, error) {
			return c.Refresh(ctx, "prod/db")
		},
		"Refresh by ARN": func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error) {
			return c.Refresh(ctx, arn)
		},
		"after Invalidate, by name": func(ctx context.Context, c *cache.Cache, _ string) (*cache.Secret, error) {
			c.Invalidate("prod/db")
			return c.Get(ctx, "prod/db")
		},
		"after Invalidate, by ARN": func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error) {
			c.Invalidate("prod/db")
			return c.Get(ctx, arn)
		},
		"after Invalidate, by ARN, the name before": func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error) {
			c.Invalidate("prod/db")
			_, _ = c.Get(ctx, "prod/db")
			return c.Get(ctx, arn)
		},
		"after Invalidate, Prefetch": func(ctx context.Context, c *cache.Cache, _ string) (*cache.Secret, error) {
			c.Invalidate("prod/db")
			if err := c.Prefetch(ctx, "prod/db"); err != nil {
				return nil, err
			}
			return c.Get(ctx, "prod/db")
		},
		"another label, by name": func(ctx context.Context, c *cache.Cache, _ string) (*cache.Secret, error) {
			return c.GetStage(ctx, "prod/db", "blue")
		},
		"another label, by ARN": func(ctx context.Context, c *cache.Cache, arn string) (*cache.Secret, error) {
			return c.GetStage(ctx, arn, "blue")
		},
	} {
		withReplicas(t, name, cache.Options{MinRefresh: -1}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
			for _, region := range []string{away, afar} {
				srv := smtest.New(&smtest.Options{Region: region})
				defer srv.Close()
				srv.Put("prod/db", "foreign")
				in := &secretsmanager.PutSecretValueInput{SecretId: aws.String("prod/db"), SecretString: aws.String("foreign blue"), VersionStages: []string{"blue"}}
				if _, err := srv.Client().PutSecretValue(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				h.set(region, srv.Client().Options().HTTPClient.Do)
			}
			get(t, c, "v1")
			wantText(t, c, arn, "v1")
			h.set(home, down)
			s, err := read(t.Context(), c, arn)
			if err == nil {
				t.Errorf("another secret answers: %q of %s", s.Text(), s.ARN())
			} else if failed, ok := errors.AsType[*cache.Error](err); !ok || !failed.Transient || errors.Is(err, cache.ErrNotFound) {
				t.Errorf("%v, want home's error", err)
			}
		})
	}
	// In an outage what is held is served.
	withReplicas(t, "what is held", cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
		srv := smtest.New(&smtest.Options{Region: away})
		defer srv.Close()
		srv.Put("prod/db", "foreign")
		h.set(away, srv.Client().Options().HTTPClient.Do)
		h.set(afar, down)
		get(t, c, "v1")
		h.set(home, down)
		begin := time.Now()
		for time.Since(begin) < 2*time.Hour {
			get(t, c, "v1")
			wantText(t, c, arn, "v1")
			synctest.Wait()
			time.Sleep(30 * time.Second)
		}
	})
}

// Prefetch falls back too.
func TestPrefetchFromReplicas(t *testing.T) {
	for name, down := range outages() {
		withReplicas(t, name, cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, arn string) {
			ids := append(putApps(h.srv, 5), arn)
			h.set(home, down)
			wantPrefetched(t, c, ids...)
			h.took()
			for _, id := range ids[:5] {
				wantText(t, c, id, valueOf(id))
			}
			wantText(t, c, arn, "v1")
			if got := h.took(); got != "" {
				t.Errorf("%s was asked for what was prefetched", got)
			}
		})
	}
}

// Close, and a reader that leaves in serverless mode, end the round of the
// replicas.
func TestReplicasAreNotAskedForNobody(t *testing.T) {
	hung := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	withReplicas(t, "Close", cache.Options{}, func(t *testing.T, h *homeland, c *cache.Cache, _ string) {
		h.set(home, hung)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(t.Context(), "prod/db"); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("Get: %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		c.Close()
		wg.Wait()
		if got := h.took(); got != home {
			t.Errorf("asked in %q", got)
		}
	})
	withReplicas(t, "a reader leaves", cache.Options{Serverless: cache.On}, func(t *testing.T, h *homeland, c *cache.Cache, _ string) {
		h.set(home, hung)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, "prod/db"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: %v, want its deadline", err)
		}
		synctest.Wait()
		if got := h.took(); got != home {
			t.Errorf("asked in %q", got)
		}
	})
}
