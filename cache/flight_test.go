package cache_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// Another version is held than the one that was refused: RefreshIf is Get, which
// takes what is held although the last forced read failed, and reads beyond the
// TTL.
func TestRefreshIfOfAnotherVersionIsGet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1")
		refreshIf := func(want string) {
			t.Helper()
			if s, err := c.RefreshIf(t.Context(), "prod/db", v1.VersionID()); err != nil || s.Text() != want {
				t.Errorf("RefreshIf = %v, %v, want %s", s, err, want)
			}
		}
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v2")
		refreshIf("v2")
		time.Sleep(time.Minute)
		remove := srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
		if _, err := c.Refresh(t.Context(), "prod/db"); err == nil {
			t.Error("Refresh succeeded against a failure")
		}
		remove()
		time.Sleep(time.Minute)
		srv.ResetCalls()
		refreshIf("v2")
		calls(t, srv, 0)

		srv.Put("prod/db", "v3")
		time.Sleep(3 * time.Minute)
		refreshIf("v3")
		calls(t, srv, 1)
	})
}

// Whether a call that is under way will do is a matter of when it began.
func TestRefreshAfterAndTheFlightUnderWay(t *testing.T) {
	for _, test := range []struct {
		name         string
		since, asked time.Duration // the flight begins after one second and takes three
		want         string
		calls        int
	}{
		{"begun after the instant: joined", 500 * time.Millisecond, 3 * time.Second, "v1", 1},
		{"begun before it: waited out", 2 * time.Second, 3 * time.Second, "v2", 2},
		{"begun before now: waited out", 3 * time.Second, 3 * time.Second, "v2", 2},
		{"begun before it asked for the future: waited out", time.Hour, 3 * time.Second, "v2", 2},
	} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			start := time.Now()
			srv.Inject(smtest.Fault{DelayAnswer: 3 * time.Second, Times: 1})
			var wg sync.WaitGroup
			time.Sleep(time.Second)
			wg.Go(func() { get(t, c, "v1") })
			synctest.Wait()
			srv.Put("prod/db", "v2")
			time.Sleep(test.asked - time.Since(start))
			for range 10 {
				wg.Go(func() {
					s, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, start.Add(test.since))
					if err != nil || s.Text() != test.want {
						t.Errorf("%s: RefreshAfter = %v, %v, want %s", test.name, s, err, test.want)
					}
				})
			}
			wg.Wait()
			if got := srv.Count("GetSecretValue"); got != test.calls {
				t.Errorf("%s: %d calls, want %d", test.name, got, test.calls)
			}
		})
	}
}

// The clock of a bubble stands still, and a refusal and the read that it asks for
// may share an instant on a coarse one: a call made for the caller is after t.
func TestRefreshAfterNowIsOneCall(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			// A loop without end must end with the test.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			srv.Inject(smtest.Fault{Before: func(context.Context, smtest.Call) {
				if srv.Count("GetSecretValue") > 10 {
					cancel()
				}
			}})
			if s, err := c.RefreshAfter(ctx, "prod/db", cache.Current, time.Now().Add(ahead)); err != nil || s.Text() != "v1" {
				t.Errorf("RefreshAfter(in %v) = %v, %v", ahead, s, err)
			}
			calls(t, srv, 2)
		})
	}
}

// However a reader comes to the end of its context, no call begins after that.
func TestReaderThatGaveUpMakesNoCall(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, read := range map[string]func() error{
			"Get":          func() error { _, err := c.Get(ctx, "prod/db"); return err },
			"Refresh":      func() error { _, err := c.Refresh(ctx, "prod/db"); return err },
			"RefreshIf":    func() error { _, err := c.RefreshIf(ctx, "prod/db", "x"); return err },
			"RefreshAfter": func() error { _, err := c.RefreshAfter(ctx, "prod/db", cache.Current, time.Now()); return err },
		} {
			if err := read(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want context.Canceled", name, err)
			}
			synctest.Wait() // a call would be on its way
			if n := srv.Count("GetSecretValue"); n != 0 {
				t.Errorf("%s: %d calls for a reader that had given up", name, n)
			}
		}
	})
}

// A pausing context keeps its reader from going to sleep for a while.
type pausing struct {
	context.Context
	pause time.Duration
}

func (c pausing) Done() <-chan struct{} {
	time.Sleep(c.pause)
	return c.Context.Done()
}

// A reader that is slow to wake returns what the call brought that it waited for,
// though a later one has failed meanwhile.
func TestReaderReturnsItsOwnFlight(t *testing.T) {
	type reader func(ctx context.Context, c *cache.Cache, start time.Time) (*cache.Secret, error)
	for name, test := range map[string]struct {
		joins bool // another reader's call is under way
		read  reader
	}{
		"Get": {false, func(ctx context.Context, c *cache.Cache, _ time.Time) (*cache.Secret, error) {
			return c.Get(ctx, "prod/db")
		}},
		"Refresh": {false, func(ctx context.Context, c *cache.Cache, _ time.Time) (*cache.Secret, error) {
			return c.Refresh(ctx, "prod/db")
		}},
		"RefreshAfter": {false, func(ctx context.Context, c *cache.Cache, start time.Time) (*cache.Secret, error) {
			return c.RefreshAfter(ctx, "prod/db", cache.Current, start.Add(time.Hour))
		}},
		"RefreshAfter, with another": {true, func(ctx context.Context, c *cache.Cache, start time.Time) (*cache.Secret, error) {
			return c.RefreshAfter(ctx, "prod/db", cache.Current, start)
		}},
	} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			start := time.Now()
			remove := srv.Inject(smtest.Fault{Delay: time.Second})
			var wg sync.WaitGroup
			if test.joins {
				time.Sleep(time.Millisecond)
				wg.Go(func() { get(t, c, "v1") })
				synctest.Wait()
			}
			wg.Go(func() {
				if s, err := test.read(pausing{t.Context(), 5 * time.Second}, c, start); err != nil || s.Text() != "v1" {
					t.Errorf("%s = %v, %v, want the v1 that was read for it", name, s, err)
				}
			})
			time.Sleep(3 * time.Second)
			calls(t, srv, 1)
			remove()
			srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
			if _, err := c.Refresh(t.Context(), "prod/db"); err == nil {
				t.Error("Refresh succeeded against a failure")
			}
			wg.Wait()
			calls(t, srv, 2)
		})
	}
}

// A reader that waits out an older call makes none itself if somebody else made
// one meanwhile, whatever the clock says of it.
func TestRefreshAfterTakesWhatOthersRead(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{DelayAnswer: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "v1") })
		synctest.Wait()
		srv.Put("prod/db", "v2")
		wg.Go(func() {
			s, err := c.RefreshAfter(pausing{t.Context(), 5 * time.Second}, "prod/db", cache.Current, time.Now().Add(time.Hour))
			if err != nil || s.Text() != "v2" {
				t.Errorf("RefreshAfter = %v, %v, want v2", s, err)
			}
		})
		time.Sleep(2 * time.Second)
		if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
			t.Errorf("Refresh = %v, %v, want v2", s, err)
		}
		wg.Wait()
		calls(t, srv, 2)
	})
}

// Close returns when nothing of the Cache runs any more, also where a client is
// slow to see that its context has ended.
func TestCloseWaitsForTheFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		c, err := cache.New(clientFunc(func(ctx context.Context, _ *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil, ctx.Err()
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		start := time.Now() // and no time passes up to Close
		wg.Go(func() {
			_, err := c.Get(t.Context(), "prod/db")
			if !errors.Is(err, cache.ErrClosed) || time.Since(start) != 0 {
				t.Errorf("Get: %v, %v after Close, want ErrClosed at once", err, time.Since(start))
			}
		})
		synctest.Wait()
		c.Close()
		if took := time.Since(start); took != time.Second || !ended {
			t.Errorf("Close returned after %v, the call had ended: %v; want 1s, true", took, ended)
		}
		wg.Wait()
	})
}

// A slowHandler takes a second for each record.
type slowHandler struct {
	slog.Handler
	mu   *sync.Mutex
	seen *[]string
}

func (h slowHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h slowHandler) Handle(_ context.Context, r slog.Record) error {
	time.Sleep(time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.seen = append(*h.seen, r.Level.String()+" "+r.Message)
	return nil
}

func TestSlowLogDelaysNoReader(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	logger := slog.New(slowHandler{slog.DiscardHandler, &mu, &seen})
	bubble(t, &cache.Options{Logger: logger}, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		start := time.Now()
		get(t, c, "v1")
		if _, err := c.Get(t.Context(), "prod/none"); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the readers waited %v for the log", took)
		}
		c.Close() // which waits for the handler too
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(seen, ", "); !strings.Contains(got, "DEBUG secret read") || !strings.Contains(got, "WARN secret not read") {
			t.Errorf("logged %q", got)
		}
	})
}

// What somebody has to change does not go away by itself: it is told apart from
// what does, says what to do, and is held for a second like any such failure.
func TestLastingErrors(t *testing.T) {
	for code, advice := range map[string]string{
		"ResourceNotFoundException": "check the name, the region and the account",
		"AccessDeniedException":     "identity policy",
		"DecryptionFailure":         "kms:Decrypt",
		"InvalidRequestException":   "RestoreSecret",
		"InvalidParameterException": "check the secret ID and the staging label",
		"ValidationException":       "check the secret ID",
	} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			srv.Inject(smtest.Fault{Err: &smtest.Error{Code: code, Message: "no"}})
			for range 2 {
				_, err := c.Get(t.Context(), "prod/db")
				failed, ok := errors.AsType[*cache.Error](err)
				if !ok || failed.Transient || !strings.Contains(err.Error(), code+": no (") || !strings.Contains(err.Error(), advice) {
					t.Errorf("%s: %v, transient %v, want it to last and to say %q", code, err, ok && failed.Transient, advice)
				}
			}
			calls(t, srv, 1)
		})
	}
}

// Versions are told apart by their IDs: what was refused, what is decoded.
func TestAnswerWithoutAVersion(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	for _, version := range []string{"", `"VersionId":"",`, `"VersionId":null,`} {
		client := srv.Client(func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK,
					Header:     http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
					Body:       io.NopCloser(strings.NewReader(`{"ARN":"arn","Name":"prod/db",` + version + `"SecretString":"` + sentinel + `"}`)),
					Request:    r,
				}, nil
			})
		})
		c, err := cache.New(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Get(t.Context(), "prod/db")
		c.Close()
		if err == nil || !strings.Contains(err.Error(), "names no version") || strings.Contains(err.Error(), sentinel) {
			t.Errorf("Get of an answer with %q = %v, %v, want an error", version, s, err)
		}
	}
}

// What was read before Close is not given out after it.
func TestReaderThatWakesAfterClose(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		for range 20 { // a reader that has two reasons to wake takes either
			wg.Go(func() {
				s, err := c.Get(pausing{t.Context(), 3 * time.Second}, "prod/db")
				if !errors.Is(err, cache.ErrClosed) {
					t.Errorf("Get = %v, %v, want ErrClosed", s, err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		calls(t, srv, 1)
		c.Close()
		wg.Wait()
	})
}

// Within MinRefresh a refused version is not asked about again.
func TestRefreshIfIsLimited(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1")
		for want := 1; want <= 3; want++ {
			for range 10 {
				if s, err := c.RefreshIf(t.Context(), "prod/db", v1.VersionID()); err != nil || s.Text() != "v1" {
					t.Errorf("RefreshIf = %v, %v, want v1", s, err)
				}
			}
			calls(t, srv, want)
			time.Sleep(time.Second)
		}
	})
}

// What the service did after the start of a call, its error says nothing of.
func TestErrorSaysWhenTheCallBegan(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: time.Second, Err: smtest.AccessDenied})
		start := time.Now()
		_, err := c.Get(t.Context(), "prod/db")
		if failed, ok := errors.AsType[*cache.Error](err); !ok || !failed.Began.Equal(start) {
			t.Errorf("Get: %#v, want an error that began at %v", err, start)
		}
	})
}
