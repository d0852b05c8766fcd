package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/smtest"
)

type config struct {
	User     string
	Password cache.Redacted
}

func TestJSON(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Put("prod/db", `{"User":"app","Password":"`+sentinel+`"}`)
		v := cache.JSON[config](c, "prod/db")
		calls(t, srv, 0)
		for range 3 {
			got, err := v.Get(t.Context())
			if err != nil || got.User != "app" || string(got.Password) != sentinel {
				t.Fatalf("Get = %v, %v", got, err)
			}
		}
		calls(t, srv, 1)
		srv.Put("prod/db", `{"User":"`+sentinel)
		time.Sleep(5 * time.Minute)
		_, err := v.Get(t.Context())
		if err == nil || !strings.Contains(err.Error(), `secret "prod/db"`) || !strings.Contains(err.Error(), "not valid JSON") {
			t.Errorf("Get of what is no JSON: %v", err)
		}
		leaktest.Check(t, sentinel, err)
		srv.Put("prod/db", `{"User":"again"}`)
		time.Sleep(5 * time.Minute)
		if got, err := v.Get(t.Context()); err != nil || got.User != "again" {
			t.Errorf("Get = %v, %v", got, err)
		}
	})
}

// A version is decoded once, whatever is read, and by however many.
func TestDeriveOnceAVersion(t *testing.T) {
	var mu sync.Mutex
	made := make(map[string]int)
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v := cache.Derive(c, "prod/db", func(s *cache.Secret) (string, error) {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			made[s.Text()]++
			return "made of " + s.Text(), nil
		})
		for _, want := range []string{"v1", "v1", "v2", "v2"} {
			srv.Put("prod/db", want)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if got, err := v.Get(t.Context()); err != nil || got != "made of "+want {
						t.Errorf("Get = %q, %v, want that of %s", got, err, want)
					}
				})
			}
			wg.Wait()
			time.Sleep(10 * time.Minute)
		}
		// Each Put is a version of its own, also with the same text.
		if fmt.Sprint(made) != "map[v1:2 v2:2]" {
			t.Errorf("made %v", made)
		}
		c.Invalidate("prod/db")
		if _, err := v.Get(t.Context()); err != nil || made["v2"] != 2 {
			t.Errorf("Get: %v; a version that was forgotten and read again was made %d times", err, made["v2"])
		}
	})
}

// What cannot be made is not tried again for the same version.
func TestDeriveErrorStands(t *testing.T) {
	tries := 0
	broken := errors.New("no key in it")
	bubble(t, nil, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		v := cache.Derive(c, "prod/db", func(*cache.Secret) (int, error) { tries++; return 0, broken })
		for range 10 {
			if _, err := v.Get(t.Context()); !errors.Is(err, broken) {
				t.Errorf("Get: %v", err)
			}
		}
		if tries != 1 {
			t.Errorf("%d tries", tries)
		}
		if _, err := cache.Derive(c, "prod/none", func(*cache.Secret) (int, error) { return 0, broken }).Get(t.Context()); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Get of no secret: %v", err)
		}
	})
}

// A panic is its caller's, and leaves the value to be made by the next reader.
func TestDerivePanic(t *testing.T) {
	bubble(t, nil, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		first := true
		v := cache.Derive(c, "prod/db", func(s *cache.Secret) (string, error) {
			time.Sleep(time.Second)
			if first {
				first = false
				panic("no")
			}
			return s.Text(), nil
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() != "no" {
					t.Error("the panic did not reach its caller")
				}
			}()
			_, _ = v.Get(t.Context())
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := v.Get(t.Context()); err != nil || got != "v1" {
				t.Errorf("Get = %q, %v", got, err)
			}
		})
		wg.Wait()
	})
}

func TestDeriveWaitsOnTheReadersContext(t *testing.T) {
	bubble(t, nil, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		v := cache.Derive(c, "prod/db", func(*cache.Secret) (int, error) { time.Sleep(time.Minute); return 1, nil })
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = v.Get(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := v.Get(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Get: %v after %v", err, time.Since(start))
		}
		wg.Wait()
	})
}

func TestValueDoesNotAllocate(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"User":"app"}`)
	c := newCache(t, srv, nil)
	v := cache.JSON[config](c, "prod/db")
	if n := testing.AllocsPerRun(100, func() { _, _ = v.Get(t.Context()) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	c.Close()
	leaktest.Check(t, sentinel, v)
}

// What is decoded into a Redacted is there for the program, and for nobody who
// prints.
func TestRedacted(t *testing.T) {
	type inner struct {
		Key  cache.Redacted
		Keys []cache.Redacted
		Map  map[string]*cache.Redacted
	}
	var v struct{ Inner *inner }
	text := `{"Inner":{"Key":"` + sentinel + `","Keys":["` + sentinel + `"],"Map":{"k":"` + sentinel + `"}}}`
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if string(v.Inner.Key) != sentinel || string(*v.Inner.Map["k"]) != sentinel {
		t.Fatalf("decoded as %q", string(v.Inner.Key))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		for _, printed := range []any{v.Inner.Key, &v.Inner.Key, *v.Inner, v.Inner.Keys} {
			if got := fmt.Sprintf(verb, printed); strings.Contains(got, sentinel) || strings.Contains(got, fmt.Sprintf("%x", sentinel)) {
				t.Errorf("%s of a %T shows the secret: %s", verb, printed, got)
			}
		}
	}
	if got, err := json.Marshal(v); err != nil || strings.Contains(string(got), sentinel) || !strings.Contains(string(got), `"Key":"[redacted]"`) {
		t.Errorf("json: %s, %v", got, err)
	}
}

func TestStatic(t *testing.T) {
	values := map[string]string{"prod/db": sentinel}
	client := cache.Static(values)
	values["prod/db"] = "changed later"
	c, err := cache.New(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Get(t.Context(), "prod/db")
	if err != nil || s.Text() != sentinel || s.Name() != "prod/db" || s.VersionID() == "" || s.Stages()[0] != cache.Current {
		t.Fatalf("Get = %v, %v", s, err)
	}
	if v, err := c.GetVersion(t.Context(), "prod/db", s.VersionID()); err != nil || v.Text() != sentinel {
		t.Errorf("GetVersion = %v, %v", v, err)
	}
	for name, read := range map[string]func() error{
		"unknown":  func() error { _, err := c.Get(t.Context(), "prod/none"); return err },
		"pending":  func() error { _, err := c.GetStage(t.Context(), "prod/db", cache.Pending); return err },
		"previous": func() error { _, err := c.GetStage(t.Context(), "prod/db", cache.Previous); return err },
		"version":  func() error { _, err := c.GetVersion(t.Context(), "prod/db", "x"); return err },
	} {
		if err := read(); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if err := c.Prefetch(t.Context(), "prod/db"); err != nil {
		t.Errorf("Prefetch: %v", err)
	}
	arn := "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x-AbCdEf"
	c2, err := cache.New(cache.Static(map[string]string{arn: "x"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if s, err := c2.Get(t.Context(), arn); err != nil || s.Text() != "x" {
		t.Errorf("Get by ARN = %v, %v", s, err)
	}
	leaktest.Check(t, sentinel, client)
}

func TestForced(t *testing.T) {
	var forced []bool
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", "v1")
		c, err := cache.New(watching(srv.Client(), func(ctx context.Context) { forced = append(forced, cache.Forced(ctx)) }), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		get(t, c, "v1")
		time.Sleep(time.Second)
		_, _ = c.Refresh(t.Context(), "prod/db")
		_, _ = c.RefreshAfter(t.Context(), "prod/db", cache.Pending, time.Now())
		time.Sleep(5 * time.Minute)
		get(t, c, "v1")
		if fmt.Sprint(forced) != "[false true true false]" {
			t.Errorf("forced: %v", forced)
		}
		if cache.Forced(t.Context()) {
			t.Error("a context of nobody's is forced")
		}
	})
}
