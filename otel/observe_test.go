package otel_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// Every instrument of Client and Observe, after a day that has a bit of everything.
func TestInstruments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := newTelemetry()
		srv, sdk := service(t)
		rejected := errors.New("no")
		c := newCache(t, otel.Client(sdk, &tel.opts), &cache.Options{
			MaxEntries: 2,
			Validate: func(s *cache.Secret) error {
				if s.Text() == "bad" {
					return rejected
				}
				return nil
			},
		})
		observe(t, c, tel.with(func(o *otel.Options) { o.Secrets = []string{"prod/db", "prod/api", "prod/db"} }))
		srv.Inject(smtest.Fault{Delay: 10 * time.Millisecond})

		get := func(id string) { _, _ = c.Get(t.Context(), id) }
		_ = c.Prefetch(t.Context(), "prod/db", "prod/api") // batch
		time.Sleep(time.Minute)
		get("prod/db") // fresh: nothing is counted
		_, _ = srv.Rotate(t.Context(), "prod/db", "new")
		_, _ = c.Refresh(t.Context(), "prod/db") // forced, changed
		time.Sleep(time.Minute)
		_, _ = srv.Rotate(t.Context(), "prod/db", "bad")
		_, _ = c.Refresh(t.Context(), "prod/db") // forced, rejected
		time.Sleep(10 * time.Minute)
		remove := srv.Inject(smtest.Fault{Err: smtest.Throttling})
		get("prod/api") // waits, fails, is stale
		get("prod/api") // stale
		remove()

		same(t, tel.series(t), []string{
			"keyturn.cache.calls counter {call} {rpc.method=BatchGetSecretValue} 1",
			"keyturn.cache.calls counter {call} {rpc.method=GetSecretValue} 3",
			"keyturn.cache.changes counter {version} {} 1",
			"keyturn.cache.entries updown {entry} {} 2",
			"keyturn.cache.evictions counter {entry} {} 0",
			"keyturn.cache.failures counter {read} {} 2",
			"keyturn.cache.rejections counter {version} {} 1",
			"keyturn.cache.secret.age gauge s {} 720.04",
			"keyturn.cache.secrets updown {secret} {keyturn.secret.state=aging} 0",
			"keyturn.cache.secrets updown {secret} {keyturn.secret.state=dead} 0",
			"keyturn.cache.secrets updown {secret} {keyturn.secret.state=expired} 1",
			"keyturn.cache.secrets updown {secret} {keyturn.secret.state=failing} 1",
			"keyturn.cache.secrets updown {secret} {keyturn.secret.state=fresh} 0",
			"keyturn.cache.stale_reads counter {read} {} 2",
			fmt.Sprint("keyturn.cache.waits counter {read} {} ", c.Stats().Waits), // Prefetch waits once or twice
			"rpc.client.call.duration histogram s {cloud.region=us-east-1 keyturn.cache.forced=false rpc.method=BatchGetSecretValue rpc.service=Secrets Manager rpc.system.name=aws-api} 1 calls, 0.01",
			"rpc.client.call.duration histogram s {cloud.region=us-east-1 keyturn.cache.forced=true rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system.name=aws-api} 2 calls, 0.02",
			"rpc.client.call.duration histogram s {cloud.region=us-east-1 error.type=ThrottlingException keyturn.cache.forced=false rpc.method=GetSecretValue rpc.service=Secrets Manager rpc.system.name=aws-api} 1 calls, 0.01",
		})
	})
}

// The states of secrets that are told apart, from before the first read to the end.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := newTelemetry()
		srv, sdk := service(t)
		c := newCache(t, sdk, &cache.Options{TTL: time.Minute})
		observe(t, c, tel.with(func(o *otel.Options) {
			o.Secrets, o.SecretIDs = []string{"prod/db", "no/such"}, true
			o.Attributes = []attribute.KeyValue{attribute.String("pool", "a")}
		}))
		calls := srv.Count("GetSecretValue")
		want := func(id, state, age string) {
			t.Helper()
			of := " {keyturn.secret.id=" + id + " "
			var got []string
			for _, line := range tel.series(t) {
				if name, rest, ok := strings.Cut(line, of); ok && strings.HasPrefix(name, "keyturn.cache.secret") && !strings.HasSuffix(rest, " 0") {
					got = append(got, rest)
				}
			}
			var want []string
			if state != "" {
				want = append(want, "keyturn.secret.state="+state+" pool=a} 1")
			}
			if age != "" {
				want = append(want, "pool=a} "+age)
			}
			same(t, got, want)
		}
		want("prod/db", "", "") // nobody has asked: that is no trouble
		_, _ = c.Get(t.Context(), "no/such")
		want("no/such", "dead", "")
		_, _ = c.Get(t.Context(), "prod/db")
		time.Sleep(time.Second)
		want("prod/db", "fresh", "1")
		time.Sleep(58 * time.Second)
		want("prod/db", "aging", "59")
		time.Sleep(time.Second)
		want("prod/db", "expired", "60")
		srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		_, _ = c.Get(t.Context(), "prod/db")
		want("prod/db", "failing", "60")
		if n := srv.Count("GetSecretValue") - calls; n != 3 {
			t.Errorf("%d calls for 3 reads: collecting reads secrets", n)
		}
		c.Close()
		want("prod/db", "", "")
	})
}

func TestObserveStops(t *testing.T) {
	tel := newTelemetry()
	_, sdk := service(t)
	c := newCache(t, sdk, nil)
	stop, err := otel.Observe(c, &tel.opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(tel.series(t)) == 0 {
		t.Error("nothing is observed")
	}
	for range 2 {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if got := tel.series(t); len(got) > 0 {
		t.Errorf("after stop: %v", got)
	}
}

// Two caches: their counts add up, or have attributes that tell them apart.
func TestTwoCaches(t *testing.T) {
	for _, test := range []struct {
		name string
		opts func(*otel.Options, string)
		want []string
	}{
		{"alike", func(*otel.Options, string) {}, []string{
			"keyturn.cache.waits counter {read} {} 3",
		}},
		{"told apart", func(o *otel.Options, name string) {
			o.Attributes = []attribute.KeyValue{attribute.String("cache", name)}
		}, []string{
			"keyturn.cache.waits counter {read} {cache=a} 1",
			"keyturn.cache.waits counter {read} {cache=b} 2",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tel := newTelemetry()
			_, sdk := service(t)
			a, b := newCache(t, sdk, nil), newCache(t, sdk, nil)
			observe(t, a, tel.with(func(o *otel.Options) { test.opts(o, "a") }))
			observe(t, b, tel.with(func(o *otel.Options) { test.opts(o, "b") }))
			_, _ = a.Get(t.Context(), "prod/db")
			_, _ = b.Get(t.Context(), "prod/db")
			_, _ = b.Get(t.Context(), "prod/api")
			var got []string
			for _, line := range tel.series(t) {
				if strings.HasPrefix(line, "keyturn.cache.waits ") {
					got = append(got, line)
				}
			}
			same(t, got, test.want)
		})
	}
}

func TestObserveRetry(t *testing.T) {
	tel := newTelemetry()
	var stats retry.Stats
	stop, err := otel.ObserveRetry(&stats, &tel.opts)
	if err != nil {
		t.Fatal(err)
	}
	stats.Accepted.Store(1)
	stats.Refused.Store(2)
	stats.NoVerdict.Store(3)
	stats.Waits.Store(4)
	stats.Polls.Store(5)
	same(t, tel.series(t), []string{
		"keyturn.retry.logins counter {login} {keyturn.retry.outcome=accepted} 1",
		"keyturn.retry.logins counter {login} {keyturn.retry.outcome=refused} 2",
		"keyturn.retry.logins counter {login} {keyturn.retry.outcome=no_verdict} 3",
		"keyturn.retry.waits counter {login} {} 4",
		"keyturn.retry.polls counter {wait} {} 5",
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNothingToObserve(t *testing.T) {
	if stop, err := otel.Observe(nil, nil); stop != nil || err == nil {
		t.Errorf("Observe(nil): %v", err)
	}
	if stop, err := otel.ObserveRetry(nil, nil); stop != nil || err == nil {
		t.Errorf("ObserveRetry(nil): %v", err)
	}
	if client := otel.Client(nil, nil); client != nil {
		t.Errorf("Client(nil) = %v; cache.New would not say that it is nil", client)
	}
}

// With everything on, a read of a fresh value costs what it does without.
func TestFreshReadsDoNotAllocate(t *testing.T) {
	tel := newTelemetry()
	_, sdk := service(t)
	c := newCache(t, otel.Client(sdk, &tel.opts), nil)
	observe(t, c, tel.with(func(o *otel.Options) { o.Secrets, o.SecretIDs = []string{"prod/db"}, true }))
	h := c.Handle("prod/db")
	for name, read := range map[string]func() (*cache.Secret, error){
		"Get":        func() (*cache.Secret, error) { return c.Get(t.Context(), "prod/db") },
		"Handle.Get": func() (*cache.Secret, error) { return h.Get(t.Context()) },
	} {
		if _, err := read(); err != nil {
			t.Fatal(err)
		}
		before := tel.series(t)
		if n := testing.AllocsPerRun(100, func() { _, _ = read() }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
		if n := len(tel.spans.Started()); n != 1 || len(before) == 0 {
			t.Errorf("%s: %d spans, want that of the only call", name, n)
		}
	}
}
