package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/smtest"
)

// noRetry makes a client's calls the cache's: the SDK does not repeat them.
func noRetry(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 }

// valueOf is what the servers of these tests hold under a name.
func valueOf(name string) string { return "value of " + name }

// putApps puts n secrets into a server and returns their names.
func putApps(srv *smtest.Server, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("app/%03d", i)
		srv.Put(ids[i], valueOf(ids[i]))
	}
	return ids
}

// fleet runs f in a bubble with a server of n secrets, as a subtest if name is not
// empty. wrap, if not nil, makes the cache's client of the server's own.
func fleet(t *testing.T, name string, n int, opts *cache.Options, wrap func(*secretsmanager.Client) cache.API,
	f func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string),
) {
	t.Helper()
	if name != "" {
		t.Run(name, func(t *testing.T) { fleet(t, "", n, opts, wrap, f) })
		return
	}
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		ids := putApps(srv, n)
		client := srv.Client(noRetry)
		var api cache.API = client
		if wrap != nil {
			api = wrap(client)
		}
		c, err := cache.New(api, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, srv, c, ids)
	})
}

// wantAsked checks how often the service was asked.
func wantAsked(t *testing.T, srv *smtest.Server, batches, singles int) {
	t.Helper()
	b, s := srv.Count("BatchGetSecretValue"), srv.Count("GetSecretValue")
	if b != batches || s != singles {
		t.Errorf("%d calls of BatchGetSecretValue and %d of GetSecretValue, want %d and %d", b, s, batches, singles)
	}
}

// wantHeld checks that the secrets are returned, and without a call.
func wantHeld(t *testing.T, srv *smtest.Server, c *cache.Cache, ids ...string) {
	t.Helper()
	before := srv.Count("")
	for _, id := range ids {
		if s, err := c.Get(t.Context(), id); err != nil || s.Text() != valueOf(id) {
			t.Errorf("Get(%q) = %v, %v, want %q", id, s, err, valueOf(id))
		}
	}
	if n := srv.Count("") - before; n != 0 {
		t.Errorf("%d calls for secrets that should be held", n)
	}
}

func wantPrefetched(t *testing.T, c *cache.Cache, ids ...string) {
	t.Helper()
	if err := c.Prefetch(t.Context(), ids...); err != nil {
		t.Errorf("Prefetch: %v", err)
	}
}

// joinedErrors returns the errors that Prefetch has joined, by the secret that
// each names.
func joinedErrors(t *testing.T, err error) map[string]*cache.Error {
	t.Helper()
	all := make(map[string]*cache.Error)
	if err == nil {
		return all
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%#v joins no errors", err)
	}
	for _, one := range joined.Unwrap() {
		failed, ok := one.(*cache.Error) //nolint:errorlint // It is to be bare.
		if !ok {
			t.Fatalf("%#v is no *cache.Error", one)
		}
		if all[failed.SecretID] != nil {
			t.Errorf("two errors for %q", failed.SecretID)
		}
		all[failed.SecretID] = failed
	}
	return all
}

// A batcher is a client with its BatchGetSecretValue in between.
type batcher struct {
	cache.API
	batch batchFunc
}

type batchFunc func(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error)

func (b batcher) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	return b.batch(ctx, in, opts...)
}

// changed wraps a client so that change may have its way with each batch's answer.
func changed(change func(*secretsmanager.BatchGetSecretValueOutput)) func(*secretsmanager.Client) cache.API {
	return func(client *secretsmanager.Client) cache.API {
		return batcher{client, func(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
			out, err := client.BatchGetSecretValue(ctx, in, opts...)
			if err == nil {
				change(out)
			}
			return out, err
		}}
	}
}

// onlyGet hides everything of a client but GetSecretValue.
func onlyGet(client *secretsmanager.Client) cache.API { return clientFunc(client.GetSecretValue) }

func TestPrefetchIsTwentyInACall(t *testing.T) {
	for _, test := range []struct{ secrets, batches int }{{0, 0}, {1, 1}, {20, 1}, {21, 2}, {40, 2}, {100, 5}} {
		fleet(t, fmt.Sprint(test.secrets), test.secrets, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			wantPrefetched(t, c, ids...)
			wantAsked(t, srv, test.batches, 0)
			times := make(map[string]int)
			for _, call := range srv.Calls() {
				for id := range strings.SplitSeq(call.SecretID, ",") {
					times[id]++
				}
			}
			for _, id := range ids {
				if times[id] != 1 {
					t.Errorf("%q was asked for %d times", id, times[id])
				}
			}
			wantHeld(t, srv, c, ids...)
			if stats := c.Stats(); stats.BatchCalls != uint64(test.batches) || stats.Calls != 0 || stats.Entries != test.secrets {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// What is held below TTL is not asked for: not while it is fresh, and not while it
// is being refreshed behind the reads either.
func TestPrefetchAsksForWhatIsNotHeld(t *testing.T) {
	fleet(t, "", 3, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		if _, err := c.Get(t.Context(), ids[1]); err != nil {
			t.Fatal(err)
		}
		srv.ResetCalls()
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 1, 0)
		if got := srv.Calls()[0].SecretID; got != ids[0]+","+ids[2] {
			t.Errorf("asked for %s, want what is not held", got)
		}
		wantPrefetched(t, c, ids...)
		time.Sleep(5*time.Minute - 1)
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 1, 0)
		time.Sleep(time.Nanosecond)
		srv.Put(ids[0], "new")
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 2, 0)
		if s, err := c.Get(t.Context(), ids[0]); err != nil || s.Text() != "new" || s.Age() != 0 {
			t.Errorf("Get = %v, %v, want what Prefetch read", s, err)
		}
	})
}

func TestPrefetchOfOneTwice(t *testing.T) {
	fleet(t, "", 2, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		wantPrefetched(t, c, ids[0], ids[1], ids[0], ids[0])
		wantAsked(t, srv, 1, 0)
		if got := srv.Calls()[0].SecretID; got != ids[0]+","+ids[1] {
			t.Errorf("asked for %s, want each once", got)
		}
		wantHeld(t, srv, c, ids...)
		// joinedErrors sees to it that there is one error for the secret.
		if failed := joinedErrors(t, c.Prefetch(t.Context(), "app/none", ids[0], "app/none")); len(failed) != 1 {
			t.Errorf("Prefetch: %v, want one error", failed)
		}
	})
}

// Readers and other Prefetches share the batch, and a Prefetch shares what is under
// way already.
func TestPrefetchIsShared(t *testing.T) {
	fleet(t, "", 4, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Delay: 2 * time.Second})
		start := time.Now()
		read := func(id string) {
			s, err := c.Get(t.Context(), id)
			if err != nil || s.Text() != valueOf(id) || time.Since(start) > 3*time.Second {
				t.Errorf("Get(%q) = %v, %v after %v", id, s, err, time.Since(start))
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { read(ids[0]) }) // a call of its own: it was the first
		synctest.Wait()
		time.Sleep(time.Second)
		wg.Go(func() { wantPrefetched(t, c, ids[:3]...) })
		synctest.Wait()
		for range 5 {
			wg.Go(func() { read(ids[1]) })
			wg.Go(func() { wantPrefetched(t, c, ids[2], ids[1]) })
			wg.Go(func() { wantPrefetched(t, c, ids[1:]...) })
			synctest.Wait()
		}
		wg.Wait()
		var asked []string
		for _, call := range srv.Calls() {
			asked = append(asked, call.Operation+" "+call.SecretID)
		}
		want := []string{
			"GetSecretValue " + ids[0],
			"BatchGetSecretValue " + ids[1] + "," + ids[2],
			"BatchGetSecretValue " + ids[3],
		}
		if !slices.Equal(asked, want) {
			t.Errorf("calls %q, want %q", asked, want)
		}
		wantHeld(t, srv, c, ids...)
	})
}

// A forced read takes no batch that began before it was asked for; one that wants
// what was read since an earlier instant does with it.
func TestRefreshTakesNoOlderBatch(t *testing.T) {
	fleet(t, "", 2, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", DelayAnswer: 2 * time.Second})
		refused := time.Now()
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { wantPrefetched(t, c, ids...) })
		synctest.Wait()
		srv.Put(ids[0], "new")
		wg.Go(func() {
			if s, err := c.Refresh(t.Context(), ids[0]); err != nil || s.Text() != "new" {
				t.Errorf("Refresh = %v, %v, want what was put before it", s, err)
			}
		})
		wg.Go(func() {
			if s, err := c.RefreshAfter(t.Context(), ids[1], cache.Current, refused); err != nil || s.Text() != valueOf(ids[1]) {
				t.Errorf("RefreshAfter = %v, %v", s, err)
			}
		})
		wg.Wait()
		wantAsked(t, srv, 1, 1)
	})
}

// A pager answers a batch in pages of so many values, the errors on the last.
type pager struct {
	client *secretsmanager.Client
	sizes  []int
	turn   func(page int) // called before each page

	first *secretsmanager.BatchGetSecretValueInput
	rest  *secretsmanager.BatchGetSecretValueOutput
	page  int
}

func (p *pager) batch(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	if p.turn != nil {
		p.turn(p.page)
	}
	if token := aws.ToString(in.NextToken); p.page > 0 && token != fmt.Sprint("page ", p.page) {
		return nil, fmt.Errorf("page %d was asked for by the token %q", p.page, token)
	}
	// Each page is a call of the service, so that what happens to calls
	// happens to it.
	fresh := &secretsmanager.BatchGetSecretValueInput{SecretIdList: in.SecretIdList}
	out, err := p.client.BatchGetSecretValue(ctx, fresh, opts...)
	if err != nil {
		return nil, err
	}
	if p.page == 0 {
		p.first, p.rest = fresh, out
	} else if !slices.Equal(p.first.SecretIdList, in.SecretIdList) {
		return nil, fmt.Errorf("page %d is one of another list", p.page)
	}
	if p.page == len(p.sizes) {
		return p.rest, nil
	}
	size := p.sizes[p.page]
	p.page++
	page := &secretsmanager.BatchGetSecretValueOutput{SecretValues: p.rest.SecretValues[:size], NextToken: aws.String(fmt.Sprint("page ", p.page))}
	p.rest = &secretsmanager.BatchGetSecretValueOutput{SecretValues: p.rest.SecretValues[size:], Errors: p.rest.Errors}
	return page, nil
}

func TestPrefetchReadsAllPages(t *testing.T) {
	for _, sizes := range [][]int{{7}, {7, 0, 6}, {0, 0, 19}, {1, 18, 0}} {
		wrap := func(client *secretsmanager.Client) cache.API {
			return batcher{client, (&pager{client: client, sizes: sizes}).batch}
		}
		fleet(t, fmt.Sprint(sizes), 19, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			err := c.Prefetch(t.Context(), append(slices.Clone(ids), "app/none")...)
			if failed := joinedErrors(t, err); len(failed) != 1 || failed["app/none"] == nil || !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Prefetch: %v, want that app/none is not found", err)
			}
			wantAsked(t, srv, len(sizes)+1, 0)
			if got := c.Stats().BatchCalls; got != uint64(len(sizes)+1) {
				t.Errorf("Stats().BatchCalls = %d, want one for each page", got)
			}
			wantHeld(t, srv, c, ids...)
		})
	}
}

// What the pages brought before one failed is kept.
func TestPrefetchPageFails(t *testing.T) {
	for _, test := range []struct {
		name    string
		fault   smtest.Fault
		singles int
		want    string // of the error; empty: there is none
	}{
		{"fails", smtest.Fault{Err: smtest.InternalServiceError}, 0, "InternalServiceError"},
		{"hangs", smtest.Fault{Delay: time.Hour}, 0, "no answer within 10s"},
		{"throttles", smtest.Fault{Err: smtest.Throttling}, 3, ""},
	} {
		var srv *smtest.Server
		wrap := func(client *secretsmanager.Client) cache.API {
			p := &pager{client: client, sizes: []int{3}}
			p.turn = func(page int) {
				if page == 1 {
					test.fault.Operation = "BatchGetSecretValue"
					srv.Inject(test.fault)
				}
			}
			return batcher{client, p.batch}
		}
		fleet(t, test.name, 6, nil, wrap, func(t *testing.T, s *smtest.Server, c *cache.Cache, ids []string) {
			srv = s
			failed := joinedErrors(t, c.Prefetch(t.Context(), ids...))
			wantAsked(t, srv, 2, test.singles)
			for i, id := range ids {
				switch {
				case i < 3 || test.want == "":
					if failed[id] != nil {
						t.Errorf("Prefetch: %v", failed[id])
					}
					wantHeld(t, srv, c, id)
				case failed[id] == nil || !strings.Contains(failed[id].Error(), test.want):
					t.Errorf("%q: %v, want %q", id, failed[id], test.want)
				}
			}
		})
	}
}

// Each secret fails by itself, in the words that it would fail in by itself.
func TestPrefetchReportsEachSecret(t *testing.T) {
	fleet(t, "", 3, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		if _, err := srv.Client().DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: &ids[1]}); err != nil {
			t.Fatal(err)
		}
		err := c.Prefetch(t.Context(), ids[0], "app/none", ids[1], ids[2], "app/nor this")
		failed := joinedErrors(t, err)
		if len(failed) != 3 || failed["app/none"] == nil || failed[ids[1]] == nil || failed["app/nor this"] == nil {
			t.Fatalf("Prefetch: %v, want three errors", err)
		}
		for id, want := range map[string]string{
			"app/none":     `cache: get secret "app/none" (AWSCURRENT): ResourceNotFoundException: Secrets Manager can't find the specified secret. (check the name`,
			ids[1]:         `cache: get secret "app/001" (AWSCURRENT): InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion. (if the secret`,
			"app/nor this": `cache: get secret "app/nor this" (AWSCURRENT): ValidationException: Invalid name.`,
		} {
			if got := failed[id]; !strings.HasPrefix(got.Error(), want) || got.Op != "get" || got.Stage != cache.Current || got.Transient {
				t.Errorf("%q: %+v, want %q", id, got, want)
			}
		}
		if !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("errors.Is(%v, ErrNotFound) = false", err)
		}
		if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || missing.ErrorMessage() == "" {
			t.Errorf("errors.As finds no *types.ResourceNotFoundException in %v", err)
		}
		if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok {
			t.Errorf("errors.As finds no *types.InvalidRequestException in %v", err)
		}
		if errors.Is(failed[ids[1]], cache.ErrNotFound) {
			t.Error("a secret that is marked for deletion is not found")
		}
		wantAsked(t, srv, 1, 0)
		wantHeld(t, srv, c, ids[0], ids[2])
	})
}

// The codes that a batch's answer may have for a secret, as the SDK returns them
// for a call.
func TestPrefetchErrorsAreTheSDKs(t *testing.T) {
	for code, test := range map[string]struct {
		is        func(error) bool
		transient bool
		advice    string
	}{
		"ResourceNotFoundException": {is[*types.ResourceNotFoundException], false, "check the name"},
		"InvalidRequestException":   {is[*types.InvalidRequestException], false, "RestoreSecret"},
		"InvalidParameterException": {is[*types.InvalidParameterException], false, "staging label"},
		"DecryptionFailure":         {is[*types.DecryptionFailure], false, "kms:Decrypt"},
		"InternalServiceError":      {is[*types.InternalServiceError], true, ""},
		"AccessDeniedException":     {is[*smithy.GenericAPIError], false, "identity policy"},
		"ThrottlingException":       {is[*smithy.GenericAPIError], true, "asks too often"},
		"SomethingNewException":     {is[*smithy.GenericAPIError], true, ""},
	} {
		wrap := changed(func(out *secretsmanager.BatchGetSecretValueOutput) {
			out.Errors = []types.APIErrorType{{SecretId: out.SecretValues[0].Name, ErrorCode: aws.String(code), Message: aws.String("the words")}}
			out.SecretValues = out.SecretValues[1:]
		})
		fleet(t, code, 3, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			failed := joinedErrors(t, c.Prefetch(t.Context(), ids...))
			got := failed[ids[0]]
			if len(failed) != 1 || got == nil {
				t.Fatalf("Prefetch: %v", failed)
			}
			if !test.is(got) || got.Transient != test.transient || !strings.Contains(got.Error(), code+": the words") || !strings.Contains(got.Error(), test.advice) {
				t.Errorf("%#v (%v)", got.Err, got)
			}
			if errors.Is(got, cache.ErrNotFound) != (code == "ResourceNotFoundException") {
				t.Errorf("errors.Is(err, ErrNotFound) = %v", errors.Is(got, cache.ErrNotFound))
			}
			wantHeld(t, srv, c, ids[1:]...)
		})
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// One ID that the service finds fault with must not take the others with it, also
// where it refuses the whole call for it. An empty one does not get there at all.
func TestPrefetchOfABadName(t *testing.T) {
	for name, test := range map[string]struct {
		bad     string
		fault   *smtest.Error
		singles int
		want    string
	}{
		"refused by itself": {"no such name!?", nil, 0, "ValidationException"},
		"refused in whole":  {"no such name!?", &smtest.Error{Code: "ValidationException", Message: "Invalid name."}, 4, "ValidationException"},
		"empty":             {"", nil, 0, "the secret ID is empty"},
	} {
		fleet(t, name, 3, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			if test.fault != nil {
				srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", Err: test.fault})
			}
			failed := joinedErrors(t, c.Prefetch(t.Context(), ids[0], test.bad, ids[1], ids[2]))
			if len(failed) != 1 || failed[test.bad] == nil || !strings.Contains(failed[test.bad].Error(), test.want) {
				t.Errorf("Prefetch: %v, want an error for %q", failed, test.bad)
			}
			wantAsked(t, srv, 1, test.singles)
			wantHeld(t, srv, c, ids...)
		})
	}
}

// Where there is no batch to be had the secrets are read one by one.
func TestPrefetchWithoutABatch(t *testing.T) {
	for name, test := range map[string]struct {
		wrap    func(*secretsmanager.Client) cache.API
		fault   *smtest.Error
		batches int
	}{
		"the client has none":     {wrap: onlyGet},
		"IAM denies it":           {fault: smtest.AccessDenied, batches: 2},
		"the service throttles":   {fault: smtest.Throttling, batches: 2},
		"the service has no such": {fault: &smtest.Error{Code: "UnknownOperationException"}, batches: 2},
	} {
		fleet(t, name, 30, nil, test.wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			if test.fault != nil {
				srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", Err: test.fault})
			}
			failed := joinedErrors(t, c.Prefetch(t.Context(), append(slices.Clone(ids), "app/none")...))
			if len(failed) != 1 || !errors.Is(failed["app/none"], cache.ErrNotFound) {
				t.Errorf("Prefetch: %v, want that app/none is not found", failed)
			}
			wantAsked(t, srv, test.batches, len(ids)+1)
			wantHeld(t, srv, c, ids...)
		})
	}
}

// Static is a client without batches too, whose IDs may be ARNs.
func TestPrefetchOfStatic(t *testing.T) {
	arn := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:b-AbCdEf"
	c, err := cache.New(cache.Static(map[string]string{"a": "1", arn: "2"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if failed := joinedErrors(t, c.Prefetch(t.Context(), "a", arn, "c")); len(failed) != 1 || !errors.Is(failed["c"], cache.ErrNotFound) {
		t.Errorf("Prefetch: %v, want that c is not found", failed)
	}
	if s, err := c.Get(t.Context(), arn); err != nil || s.Text() != "2" {
		t.Errorf("Get = %v, %v", s, err)
	}
	if stats := c.Stats(); stats.Calls != 3 || stats.BatchCalls != 0 {
		t.Errorf("%+v", stats)
	}
}

// A service that does not answer one call will not answer twenty.
func TestPrefetchFromAServiceThatFails(t *testing.T) {
	reset := func(client *secretsmanager.Client) cache.API {
		return secretsmanager.New(client.Options(), func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".BatchGetSecretValue") {
					return nil, errors.New("connection reset by peer")
				}
				return client.Options().HTTPClient.Do(r)
			})
		})
	}
	html := func(client *secretsmanager.Client) cache.API {
		return secretsmanager.New(client.Options(), func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}},
					Body: io.NopCloser(strings.NewReader("<html>Bad Gateway</html>")), Request: r,
				}, nil
			})
		})
	}
	nothing := func(client *secretsmanager.Client) cache.API {
		return batcher{client, func(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
			return nil, nil
		}}
	}
	bare := func(client *secretsmanager.Client) cache.API {
		return batcher{client, func(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
			return nil, &types.InternalServiceError{Message: aws.String("as another client may return it")}
		}}
	}
	for name, test := range map[string]struct {
		wrap  func(*secretsmanager.Client) cache.API
		fault smtest.Fault
		want  string
	}{
		"500, bare":        {wrap: bare, want: "InternalServiceError: as another"},
		"500":              {fault: smtest.Fault{Err: smtest.InternalServiceError}, want: "InternalServiceError: An error occurred"},
		"503":              {fault: smtest.Fault{Err: &smtest.Error{Code: "ServiceUnavailable", Message: "no", Status: 503}}, want: "ServiceUnavailable: no"},
		"connection reset": {wrap: reset, want: "connection reset by peer"},
		"a proxy's page":   {wrap: html, want: "HTTP status 502"},
		"no answer at all": {wrap: nothing, want: "neither values nor an error"},
	} {
		fleet(t, name, 20, nil, test.wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			test.fault.Operation = "BatchGetSecretValue"
			remove := srv.Inject(test.fault)
			failed := joinedErrors(t, c.Prefetch(t.Context(), ids...))
			for _, id := range ids {
				if failed[id] == nil || !failed[id].Transient || !strings.Contains(failed[id].Error(), test.want) {
					t.Errorf("%q: %v, want a passing error that says %q", id, failed[id], test.want)
				}
			}
			if stats := c.Stats(); stats.BatchCalls != 1 || stats.Calls != 0 {
				t.Errorf("%+v, want one call", stats)
			}
			remove()
		})
	}
}

func TestPrefetchFromAHungServiceIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		wrap func(*secretsmanager.Client) cache.API
		n    int
		want time.Duration
	}{
		"a batch":    {nil, 20, 5 * time.Second},
		"one by one": {onlyGet, 5, 5 * time.Second},
	} {
		fleet(t, name, test.n, &cache.Options{FetchTimeout: 5 * time.Second}, test.wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			remove := srv.Inject(smtest.Fault{Delay: time.Hour})
			start := time.Now()
			err := c.Prefetch(t.Context(), ids...)
			failed := joinedErrors(t, err)
			for _, id := range ids {
				if failed[id] == nil || !failed[id].Transient || !strings.Contains(failed[id].Error(), "no answer within 5s") {
					t.Errorf("%q: %v", id, failed[id])
				}
			}
			// The caller's context is alive; the error must not say otherwise.
			if errors.Is(err, context.DeadlineExceeded) || time.Since(start) != test.want {
				t.Errorf("%v after %v, want %v", err, time.Since(start), test.want)
			}
			if n := srv.Count(""); n > test.n || test.wrap == nil && n != 1 {
				t.Errorf("%d calls", n)
			}
			remove()
			time.Sleep(time.Second) // the failure is held as long
			wantPrefetched(t, c, ids...)
			wantHeld(t, srv, c, ids...)
		})
	}
}

// While there are values, if old ones, an outage is no error.
func TestPrefetchInAnOutage(t *testing.T) {
	fleet(t, "", 2, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		wantPrefetched(t, c, ids...)
		time.Sleep(5 * time.Minute)
		remove := srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		srv.ResetCalls()
		for range 10 { // in the back-off nobody asks
			wantPrefetched(t, c, ids...)
		}
		wantAsked(t, srv, 1, 0)
		remove()

		time.Sleep(time.Second)
		srv.Inject(smtest.Fault{SecretID: ids[0], Err: smtest.AccessDenied})
		if failed := joinedErrors(t, c.Prefetch(t.Context(), ids...)); len(failed) != 1 || failed[ids[0]] == nil {
			t.Errorf("Prefetch: %v, want that %q is denied", failed, ids[0])
		}
	})
}

func TestPrefetchFailuresAreHeld(t *testing.T) {
	fleet(t, "", 1, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		for range 10 {
			if err := c.Prefetch(t.Context(), ids[0], "app/none"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Prefetch: %v, want ErrNotFound", err)
			}
			if _, err := c.Get(t.Context(), "app/none"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Get: %v, want ErrNotFound", err)
			}
		}
		wantAsked(t, srv, 1, 0)
		time.Sleep(time.Second)
		srv.Put("app/none", valueOf("app/none"))
		wantPrefetched(t, c, ids[0], "app/none")
		wantAsked(t, srv, 2, 0)
		wantHeld(t, srv, c, ids[0], "app/none")
	})
}

// A caller whose context ends is told so at once. What it began is for others, but
// where nothing may run in the background it is given up.
func TestPrefetchContextEnds(t *testing.T) {
	for _, mode := range []cache.Mode{cache.Off, cache.On} {
		fleet(t, fmt.Sprint("mode ", mode), 3, &cache.Options{Serverless: mode}, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			start := time.Now()
			var gone time.Duration // when the service saw the caller go
			srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", Before: func(ctx context.Context, _ smtest.Call) {
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
					gone = time.Since(start)
				}
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := c.Prefetch(ctx, ids...)
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("Prefetch took %v, want 2s", took)
			}
			failed := joinedErrors(t, err)
			for _, id := range ids {
				if failed[id] == nil || !errors.Is(failed[id], context.DeadlineExceeded) {
					t.Errorf("%q: %v, want the context's end", id, failed[id])
				}
			}
			time.Sleep(4 * time.Second)
			synctest.Wait()
			wantAsked(t, srv, 1, 0)
			if mode == cache.Off {
				if gone != 0 {
					t.Errorf("the batch was cancelled after %v", gone)
				}
				wantHeld(t, srv, c, ids...)
			} else if gone != 2*time.Second {
				t.Errorf("the batch went on; cancelled after %v, want 2s", gone)
			}
		})
	}
}

func TestPrefetchAfterTheContextsEnd(t *testing.T) {
	fleet(t, "", 2, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		wantPrefetched(t, c, ids[0])
		srv.ResetCalls()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if failed := joinedErrors(t, c.Prefetch(ctx, ids...)); len(failed) != 1 || !errors.Is(failed[ids[1]], context.Canceled) {
			t.Errorf("Prefetch: %v, want an error for what is not held alone", failed)
		}
		synctest.Wait()
		wantAsked(t, srv, 0, 0)
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 1, 0)
	})
}

// In serverless mode a batch lives as long as one of those who wait for a secret of
// it, whoever that is.
func TestPrefetchServerlessLeavesOthersTheBatch(t *testing.T) {
	fleet(t, "", 3, &cache.Options{Serverless: cache.On}, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Delay: 3 * time.Second})
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := c.Prefetch(ctx, ids...); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Prefetch: %v, want its deadline", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if s, err := c.Get(t.Context(), ids[1]); err != nil || s.Text() != valueOf(ids[1]) || time.Since(start) != 3*time.Second {
			t.Errorf("Get = %v, %v after %v, want the batch's value after 3s", s, err, time.Since(start))
		}
		wg.Wait()
		wantAsked(t, srv, 1, 0)
	})
}

// And the other way round: a reader that gives up takes nothing from the Prefetch
// that waits for its secret, be it not that one's turn yet.
func TestPrefetchServerlessReaderGivesUp(t *testing.T) {
	fleet(t, "", 3, &cache.Options{Serverless: cache.On}, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Delay: 3 * time.Second})
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			wantPrefetched(t, c, ids...)
			if took := time.Since(start); took != 3*time.Second {
				t.Errorf("Prefetch took %v, want 3s: another reader's end is not its own", took)
			}
		})
		synctest.Wait()
		for _, id := range ids {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := c.Get(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Get: %v, want its deadline", err)
				}
			})
		}
		wg.Wait()
		wantAsked(t, srv, 1, 0)
		wantHeld(t, srv, c, ids...)
	})
}

// In serverless mode no batch begins that nobody waits for any more.
func TestPrefetchServerlessBeginsNothingForNobody(t *testing.T) {
	var mu sync.Mutex
	var late int // batches that began after the caller had gone
	gone := false
	wrap := func(client *secretsmanager.Client) cache.API {
		return batcher{client, func(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
			mu.Lock()
			if gone {
				late++
			}
			mu.Unlock()
			return client.BatchGetSecretValue(ctx, in, opts...)
		}}
	}
	fleet(t, "", 200, &cache.Options{Serverless: cache.On}, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Delay: time.Hour, Before: func(ctx context.Context, _ smtest.Call) {
			context.AfterFunc(ctx, func() {
				mu.Lock()
				defer mu.Unlock()
				gone = true
			})
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if failed := joinedErrors(t, c.Prefetch(ctx, ids...)); len(failed) != len(ids) {
			t.Errorf("%d errors, want one for each secret", len(failed))
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if late != 0 || !gone {
			t.Errorf("%d batches began for nobody", late)
		}
	})
}

func TestPrefetchAndClose(t *testing.T) {
	for name, wrap := range map[string]func(*secretsmanager.Client) cache.API{"batch": nil, "one by one": onlyGet} {
		fleet(t, name, 50, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			srv.Inject(smtest.Fault{Delay: time.Hour})
			start := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := c.Prefetch(t.Context(), ids...); !errors.Is(err, cache.ErrClosed) || err.Error() != cache.ErrClosed.Error() {
					t.Errorf("Prefetch that waited through Close: %v, want ErrClosed, once", err)
				}
			})
			synctest.Wait()
			c.Close()
			wg.Wait()
			if took := time.Since(start); took != 0 {
				t.Errorf("Close took %v", took)
			}
			n := srv.Count("")
			if err := c.Prefetch(t.Context(), ids...); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("Prefetch after Close: %v, want ErrClosed", err)
			}
			if srv.Count("") != n {
				t.Error("calls after Close")
			}
		})
	}
}

// A client that panics in a batch, or ends the goroutine as a failing test does,
// leaves no reader without an answer.
func TestPrefetchClientPanics(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":         func() { panic(sentinel) },
		"runtime error": func() { nilMap()[sentinel] = 1 },
		"Goexit":        runtime.Goexit,
	} {
		for _, get := range []bool{false, true} {
			ends := false
			wrap := func(client *secretsmanager.Client) cache.API {
				return batcher{
					clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
						if get && !ends {
							misbehave()
						}
						return client.GetSecretValue(ctx, in, opts...)
					}),
					func(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
						if !ends {
							misbehave()
						}
						return client.BatchGetSecretValue(ctx, in, opts...)
					},
				}
			}
			fleet(t, fmt.Sprint(name, ", of every call ", get), 5, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
				// A reader without an answer must end with the test.
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := c.Prefetch(ctx, ids...)
				if errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("the flights of the batch never end: %v", err)
				}
				if err != nil && strings.Contains(err.Error(), sentinel) {
					t.Error("the error shows what the client panicked with")
				}
				if failed := joinedErrors(t, err); get && (len(failed) != 5 || !strings.Contains(err.Error(), "the client ")) {
					t.Errorf("Prefetch: %v, want an error for each", err)
				}
				ends = true
				time.Sleep(time.Second) // a failure is held as long
				wantPrefetched(t, c, ids...)
				wantHeld(t, srv, c, ids...)
			})
		}
	}
}

// The same one by one, and more of them than are read at a time. It is not in a
// bubble: there a Close that does not return would end all tests.
func TestPrefetchGoexitOneByOne(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	ids := putApps(srv, 30)
	c, err := cache.New(clientFunc(func(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
		runtime.Goexit()
		return nil, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := c.Prefetch(ctx, ids...); errors.Is(err, context.DeadlineExceeded) || len(joinedErrors(t, err)) != len(ids) {
		t.Errorf("Prefetch: %d errors, context ended: %v; want an error of the client for each of %d",
			len(joinedErrors(t, err)), ctx.Err(), len(ids))
	}
	closed := make(chan struct{})
	go func() {
		c.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
		t.Error("Close does not return")
	}
}

// A ClientFor that panics is an error of the secrets that it is asked for, as it is
// for a Get. The Prefetch runs in a process of its own: a panic that nobody
// recovers would end all tests.
func TestPrefetchClientForPanics(t *testing.T) {
	const child = "KEYTURN_TEST_CLIENTFOR_PANICS"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPrefetchClientForPanics$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			text := string(out)
			t.Errorf("%v: %s", err, text[:min(len(text), 600)])
		}
		return
	}
	srv := smtest.New(nil)
	defer srv.Close()
	ids := putApps(srv, 2)
	c := newCache(t, srv, &cache.Options{ClientFor: func(string) cache.API { panic(sentinel) }})
	abroad := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
	if _, err := c.Get(t.Context(), abroad+"2"); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("Get: %v", err)
	}
	failed := joinedErrors(t, c.Prefetch(t.Context(), ids[0], abroad, ids[1]))
	if len(failed) != 1 || failed[abroad] == nil || !strings.Contains(failed[abroad].Error(), "panicked") || strings.Contains(failed[abroad].Error(), sentinel) {
		t.Errorf("Prefetch: %v, want an error for the ARN alone", failed)
	}
	wantHeld(t, srv, c, ids...)
}

// accounts is a client of one account that may read another's secrets by their
// ARNs.
type accounts struct {
	own, other *smtest.Server
	otherFirst bool // in the answer of a batch, which is in no particular order

	batches, singles int
}

const otherAccount = "222222222222"

// Options says which Region it is for, as the SDK's client does.
func (a *accounts) Options() secretsmanager.Options { return a.own.Client().Options() }

func (a *accounts) of(id string) *secretsmanager.Client {
	if strings.Contains(id, ":"+otherAccount+":") {
		return a.other.Client(noRetry)
	}
	return a.own.Client(noRetry)
}

func (a *accounts) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	a.singles++
	return a.of(*in.SecretId).GetSecretValue(ctx, in, opts...)
}

func (a *accounts) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	a.batches++
	ids := map[bool][]string{}
	for _, id := range in.SecretIdList {
		other := strings.Contains(id, ":"+otherAccount+":")
		ids[other] = append(ids[other], id)
	}
	all := &secretsmanager.BatchGetSecretValueOutput{}
	for _, other := range []bool{a.otherFirst, !a.otherFirst} {
		if len(ids[other]) == 0 {
			continue
		}
		out, err := a.of(ids[other][0]).BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids[other]}, opts...)
		if err != nil {
			return nil, err
		}
		all.SecretValues = append(all.SecretValues, out.SecretValues...)
		all.Errors = append(all.Errors, out.Errors...)
	}
	return all, nil
}

// twoAccounts runs f with a cache of one account that reads another's too; both
// have a secret of the name app.
func twoAccounts(t *testing.T, name string, f func(t *testing.T, a *accounts, c *cache.Cache)) {
	t.Helper()
	if name != "" {
		t.Run(name, func(t *testing.T) { twoAccounts(t, "", f) })
		return
	}
	synctest.Test(t, func(t *testing.T) {
		a := &accounts{own: smtest.New(nil), other: smtest.New(&smtest.Options{Account: otherAccount})}
		defer a.own.Close()
		defer a.other.Close()
		a.own.Put("app", "own")
		a.other.Put("app", "other")
		c, err := cache.New(a, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, a, c)
	})
}

// arnOf returns the full ARN of a secret.
func arnOf(t *testing.T, srv *smtest.Server, name string) string {
	t.Helper()
	out, err := srv.Client().DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &name})
	if err != nil {
		t.Fatal(err)
	}
	return *out.ARN
}

// partial returns an ARN without its suffix.
func partial(arn string) string { return arn[:len(arn)-7] }

// The answer of a batch does not say which ID it is for. A name and the ARN of
// another account's secret of that name each get their own.
func TestPrefetchTellsAccountsApart(t *testing.T) {
	for _, otherFirst := range []bool{false, true} {
		for _, reverse := range []bool{false, true} {
			for _, part := range []bool{false, true} {
				twoAccounts(t, fmt.Sprint(otherFirst, reverse, part), func(t *testing.T, a *accounts, c *cache.Cache) {
					a.otherFirst = otherFirst
					other := arnOf(t, a.other, "app")
					if part {
						other = partial(other)
					}
					ids := []string{"app", other}
					if reverse {
						slices.Reverse(ids)
					}
					wantPrefetched(t, c, ids...)
					if a.batches != 1 || a.singles != 0 {
						t.Errorf("%q: %d batches, %d single calls, want one batch", ids, a.batches, a.singles)
					}
					wantText(t, c, "app", "own")
					wantText(t, c, other, "other")
					if a.batches != 1 || a.singles != 0 {
						t.Errorf("%q: they are not held", ids)
					}
				})
			}
		}
	}
}

// wantText checks what Get returns.
func wantText(t *testing.T, c *cache.Cache, id, want string) *cache.Secret {
	t.Helper()
	s, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%q): %v, want %q", id, err, want)
	}
	if s.Text() != want {
		t.Errorf("Get(%q) = %q, want %q", id, s.Text(), want)
	}
	return s
}

// Where this account has no secret of the name, the other's is not taken for it.
func TestPrefetchTakesNoOtherAccountsSecretForAName(t *testing.T) {
	twoAccounts(t, "", func(t *testing.T, a *accounts, c *cache.Cache) {
		a.other.Put("theirs", "other")
		arn := arnOf(t, a.other, "theirs")
		for _, ids := range [][]string{{"theirs", arn}, {partial(arn), "theirs"}} {
			err := c.Prefetch(t.Context(), ids...)
			if failed := joinedErrors(t, err); len(failed) != 1 || !errors.Is(failed["theirs"], cache.ErrNotFound) {
				t.Errorf("Prefetch(%q): %v, want that the name is not found", ids, err)
			}
			if s, err := c.Get(t.Context(), "theirs"); err == nil {
				t.Errorf("Get of the name = %q", s.Text())
			}
			wantText(t, c, arn, "other")
		}
	})
}

// An answer that is one for no ID of the batch, or leaves one out: what is left is
// read by itself.
func TestPrefetchOfAnAnswerThatIsNotComplete(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*secretsmanager.BatchGetSecretValueOutput)
		singles int
	}{
		"one is missing": {func(out *secretsmanager.BatchGetSecretValueOutput) { out.SecretValues = out.SecretValues[1:] }, 1},
		"all are":        {func(out *secretsmanager.BatchGetSecretValueOutput) { out.SecretValues = nil }, 3},
		"one of another name": {func(out *secretsmanager.BatchGetSecretValueOutput) {
			out.SecretValues[0].Name = aws.String("app/who knows")
		}, 1},
		"an error of another": {func(out *secretsmanager.BatchGetSecretValueOutput) {
			out.Errors = []types.APIErrorType{{SecretId: aws.String("app/who knows"), ErrorCode: aws.String("AccessDeniedException")}, {}}
		}, 0},
		"an empty one": {func(out *secretsmanager.BatchGetSecretValueOutput) { out.SecretValues[1] = types.SecretValueEntry{} }, 1},
	} {
		fleet(t, name, 3, nil, changed(test.change), func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			if err := c.Prefetch(t.Context(), ids...); err != nil {
				t.Errorf("Prefetch: %v", err)
			}
			wantAsked(t, srv, 1, test.singles)
			wantHeld(t, srv, c, ids...)
		})
	}
}

// A value that cannot be is not taken, and the others are.
func TestPrefetchTakesWholeValues(t *testing.T) {
	for want, change := range map[string]func(*types.SecretValueEntry){
		"holds no value":   func(v *types.SecretValueEntry) { v.SecretString = nil },
		"names no version": func(v *types.SecretValueEntry) { v.VersionId = nil },
	} {
		for _, byARN := range []bool{false, true} {
			wrap := changed(func(out *secretsmanager.BatchGetSecretValueOutput) {
				for i := range out.SecretValues {
					if v := &out.SecretValues[i]; *v.Name == "app/000" {
						change(v)
					}
				}
			})
			fleet(t, fmt.Sprint(want, ", by ARN: ", byARN), 3, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
				first := ids[0]
				if byARN {
					first = arnOf(t, srv, first)
				}
				failed := joinedErrors(t, c.Prefetch(t.Context(), first, ids[1], ids[2]))
				if len(failed) != 1 || failed[first] == nil || !strings.Contains(failed[first].Error(), want) {
					t.Errorf("Prefetch: %v, want an error that says %q", failed, want)
				}
				wantHeld(t, srv, c, ids[1:]...)
			})
		}
	}
}

// A secret may be named in every way there is, in one Prefetch. In which order does
// not matter: at most the name costs a call of its own, because a value of the same
// name may be another account's.
func TestPrefetchByEveryName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("app", "v1")
		full := arnOf(t, srv, "app")
		for _, ids := range [][]string{
			{full},
			{partial(full)},
			{"app", full},
			{full, "app"},
			{"app", partial(full)},
			{partial(full), "app"},
			{full, partial(full)},
			{partial(full), full},
			{"app", partial(full), full},
			{full, partial(full), "app"},
			{partial(full), "app", full},
		} {
			srv.ResetCalls()
			c, err := cache.New(srv.Client(noRetry), nil)
			if err != nil {
				t.Fatal(err)
			}
			wantPrefetched(t, c, ids...)
			if b, s := srv.Count("BatchGetSecretValue"), srv.Count("GetSecretValue"); b != 1 || s > 1 || s > 0 && !slices.Contains(ids, "app") {
				t.Errorf("Prefetch(%q): %d batches and %d single calls, want one batch, and one call for a name at most", ids, b, s)
			}
			srv.ResetCalls()
			for _, id := range ids {
				wantText(t, c, id, "v1")
			}
			wantAsked(t, srv, 0, 0)
			c.Close()
		}
	})
}

// An error of an ID stands, whatever value of a like name the batch brings: the ARN
// of one secret, which is gone, looks like the partial ARN of another.
func TestPrefetchOfAnARNLikeAPartialOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("app-abc123", "v1")
		gone := partial(arnOf(t, srv, "app-abc123"))
		c := newCache(t, srv, nil)
		defer c.Close()
		failed := joinedErrors(t, c.Prefetch(t.Context(), "app-abc123", gone))
		if len(failed) != 1 || !errors.Is(failed[gone], cache.ErrNotFound) {
			t.Errorf("Prefetch: %v, want that the ARN is not found", failed)
		}
		wantText(t, c, "app-abc123", "v1")
		if s, err := c.Get(t.Context(), gone); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Get = %v, %v, want ErrNotFound", s, err)
		}
	})
}

// Options.Validate is asked of every secret of a batch, and rejects one alone.
func TestPrefetchAndValidate(t *testing.T) {
	bad := errors.New("it is not to my taste")
	opts := &cache.Options{Validate: func(s *cache.Secret) error {
		if strings.HasPrefix(s.Text(), "bad") {
			return bad
		}
		return nil
	}}
	fleet(t, "", 4, opts, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Put(ids[1], "bad, but there was a good one")
		srv.Put("app/bad", "bad from the beginning")
		failed := joinedErrors(t, c.Prefetch(t.Context(), append(ids, "app/bad")...))
		if got := failed["app/bad"]; len(failed) != 1 || !errors.Is(got, bad) || !strings.Contains(got.Error(), "rejected by Options.Validate") {
			t.Errorf("Prefetch: %v, want that app/bad was rejected", failed)
		}
		wantAsked(t, srv, 1, 2) // the two looks for an AWSPREVIOUS
		wantHeld(t, srv, c, ids...)
		if got := c.Stats().Rejections; got != 2 {
			t.Errorf("Stats().Rejections = %d, want 2", got)
		}
	})
}

// What is done about one secret of a batch is not the others' readers' business:
// the look for its AWSPREVIOUS, OnChange, the log.
func TestPrefetchSecretsDoNotWaitForEachOther(t *testing.T) {
	const id = "app/000" // the first of the batch is the one with the trouble
	for name, test := range map[string]struct {
		opts   *cache.Options
		before func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string)
	}{
		"AWSPREVIOUS": {
			&cache.Options{Validate: func(s *cache.Secret) error {
				if s.Name() == id {
					return errors.New("no")
				}
				return nil
			}},
			func(_ *testing.T, srv *smtest.Server, _ *cache.Cache, _ []string) {
				srv.Inject(smtest.Fault{Operation: "GetSecretValue", Delay: time.Hour})
			},
		},
		"OnChange": {
			&cache.Options{OnChange: func(*cache.Secret, *cache.Secret) { time.Sleep(5 * time.Second) }},
			func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
				wantPrefetched(t, c, ids...)
				time.Sleep(5 * time.Minute)
				srv.Put(id, "new")
			},
		},
		"Logger": {
			&cache.Options{Logger: slog.New(slowHandler{slog.DiscardHandler, new(sync.Mutex), new([]string)})},
			func(*testing.T, *smtest.Server, *cache.Cache, []string) {},
		},
	} {
		fleet(t, name, 3, test.opts, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			test.before(t, srv, c, ids)
			start := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() { _ = c.Prefetch(t.Context(), ids...) })
			synctest.Wait()
			wg.Go(func() {
				if s, err := c.Get(t.Context(), ids[2]); err != nil || time.Since(start) != 0 {
					t.Errorf("Get = %v, %v after %v, want it at once", s, err, time.Since(start))
				}
			})
			wg.Wait()
			time.Sleep(time.Minute) // for the callbacks
		})
	}
}

// Callbacks may call back in, for another secret of the same batch too.
func TestPrefetchCallbacksCallBackIn(t *testing.T) {
	for name, cold := range map[string]bool{"Validate": true, "OnChange": false} {
		for mode, wrap := range map[string]func(*secretsmanager.Client) cache.API{"batch": nil, "one by one": onlyGet} {
			var c *cache.Cache
			var mu sync.Mutex
			var asked []string
			var worst string
			ask := func(s *cache.Secret) {
				// All lean on the last one, which has nothing to lean on.
				if s.Name() == "app/019" {
					return
				}
				start := time.Now()
				// A read without end must end with the test.
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				other, err := c.Get(ctx, "app/019")
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, s.Name())
				if err != nil || time.Since(start) != 0 {
					worst = fmt.Sprintf("%v, %v after %v", other, err, time.Since(start))
				}
			}
			opts := &cache.Options{StaleWait: 10 * time.Second}
			if cold {
				opts.Validate = func(s *cache.Secret) error { ask(s); return nil }
			} else {
				opts.OnChange = func(_, now *cache.Secret) { ask(now) }
			}
			fleet(t, name+", "+mode, 20, opts, wrap, func(t *testing.T, srv *smtest.Server, made *cache.Cache, ids []string) {
				c = made
				if !cold {
					wantPrefetched(t, c, ids...)
					time.Sleep(5 * time.Minute)
				}
				for _, id := range ids[:3] {
					srv.Put(id, "new")
				}
				wantPrefetched(t, c, ids...)
				time.Sleep(time.Hour) // for the callbacks
				mu.Lock()
				defer mu.Unlock()
				if cold && len(asked) != 19 || !cold && len(asked) != 3 {
					t.Errorf("called for %q", asked)
				}
				if worst != "" {
					t.Errorf("Get of another secret = %s, want it at once", worst)
				}
			})
		}
	}
}

// OnChange hears of what a batch has found.
func TestPrefetchTellsOnChange(t *testing.T) {
	for _, mode := range []cache.Mode{cache.Off, cache.On} {
		var mu sync.Mutex
		var told []string
		opts := &cache.Options{Serverless: mode, OnChange: func(before, now *cache.Secret) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, now.Name()+": "+before.Text()+" -> "+now.Text())
		}}
		fleet(t, fmt.Sprint("mode ", mode), 3, opts, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
			wantPrefetched(t, c, ids...)
			time.Sleep(5 * time.Minute)
			srv.Put(ids[1], "new")
			wantPrefetched(t, c, ids...)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if want := []string{"app/001: value of app/001 -> new"}; !slices.Equal(told, want) {
				t.Errorf("OnChange heard %q, want %q", told, want)
			}
		})
	}
}

// A batch that moves AWSCURRENT back to an older version is confirmed like any
// other read that does.
func TestPrefetchConfirmsALabelThatMovesBack(t *testing.T) {
	var old *types.SecretValueEntry // once it is set, what the batch answers with
	forced := 0
	wrap := func(client *secretsmanager.Client) cache.API {
		return batcher{
			clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
				if cache.Forced(ctx) {
					forced++
				}
				return client.GetSecretValue(ctx, in, opts...)
			}),
			func(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
				out, err := client.BatchGetSecretValue(ctx, in, opts...)
				if err == nil && old != nil {
					out.SecretValues[0] = *old
				}
				return out, err
			},
		}
	}
	fleet(t, "", 2, nil, wrap, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		before, err := srv.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &ids[0]})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		srv.Put(ids[0], "new")
		wantPrefetched(t, c, ids...)
		old = &types.SecretValueEntry{
			ARN: before.ARN, Name: before.Name, VersionId: before.VersionId, VersionStages: before.VersionStages,
			SecretString: before.SecretString, CreatedDate: before.CreatedDate,
		}
		time.Sleep(5 * time.Minute)
		srv.ResetCalls()
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 1, 1)
		wantText(t, c, ids[0], "new")
		if forced != 1 {
			t.Errorf("%d of the confirming reads were forced ones, want 1", forced)
		}
	})
}

// What was invalidated is not brought back by a call that was under way, and a
// Prefetch after it brings what there is since.
func TestPrefetchAndInvalidate(t *testing.T) {
	fleet(t, "", 2, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		remove := srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", DelayAnswer: 2 * time.Second})
		var wg sync.WaitGroup
		wg.Go(func() { wantPrefetched(t, c, ids...) })
		synctest.Wait()
		c.Invalidate(ids[0])
		srv.Put(ids[0], "new")
		wg.Wait()
		remove()
		wantText(t, c, ids[0], "new")
		wantAsked(t, srv, 1, 1)
		wantHeld(t, srv, c, ids[1])
	})
	fleet(t, "", 1, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", DelayAnswer: 2 * time.Second, Times: 1})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Get(t.Context(), ids[0]) })
		synctest.Wait()
		c.Invalidate(ids[0])
		srv.Put(ids[0], "new")
		wantPrefetched(t, c, ids[0])
		wg.Wait()
		n := srv.Count("")
		wantText(t, c, ids[0], "new")
		if srv.Count("") != n {
			t.Error("Prefetch returned without an error, and nothing was held after it")
		}
	})
}

// Entries that are being read for have their place, also beyond MaxEntries.
func TestPrefetchBeyondMaxEntries(t *testing.T) {
	fleet(t, "", 25, &cache.Options{MaxEntries: 4}, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 2, 0)
		wantText(t, c, ids[0], valueOf(ids[0]))
		srv.Put("more", "1")
		wantText(t, c, "more", "1")
		if got := c.Stats().Entries; got > 4 {
			t.Errorf("%d entries after the next read, want 4 at most", got)
		}
	})
}

func TestPrefetchBinaryAndLargeValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		c := newCache(t, srv, nil)
		defer c.Close()
		token := "01234567-89ab-cdef-0123-456789abcdef"
		binary := []byte{0, 1, 2, 0xff, 0xfe}
		if _, err := srv.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("binary"), SecretBinary: binary, ClientRequestToken: &token}); err != nil {
			t.Fatal(err)
		}
		ids := []string{"binary"}
		for i := range 19 {
			ids = append(ids, fmt.Sprintf("large/%02d", i))
			srv.Put(ids[i+1], strings.Repeat(string(rune('a'+i)), 65536))
		}
		wantPrefetched(t, c, ids...)
		wantAsked(t, srv, 1, 0)
		if s := wantText(t, c, "binary", string(binary)); string(s.Bytes()) != string(binary) || s.VersionID() != token {
			t.Errorf("Get = % x, version %s", s.Bytes(), s.VersionID())
		}
		for i, id := range ids[1:] {
			s, err := c.Get(t.Context(), id)
			if err != nil || s.Text() != strings.Repeat(string(rune('a'+i)), 65536) {
				t.Errorf("Get(%q) = %v, %v, not what was put", id, s, err)
			}
		}
		wantAsked(t, srv, 1, 0)
	})
}

// A secret of a batch is what one of a call is.
func TestPrefetchedSecretIsWhole(t *testing.T) {
	fleet(t, "", 1, nil, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, ids []string) {
		time.Sleep(time.Second)
		remove := srv.Inject(smtest.Fault{DelayAnswer: 2 * time.Second})
		start := time.Now()
		wantPrefetched(t, c, ids...)
		remove()
		one, err := newCache(t, srv, nil).Get(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		s := wantText(t, c, ids[0], valueOf(ids[0]))
		if s.ARN() != one.ARN() || s.Name() != one.Name() || s.VersionID() != one.VersionID() || !slices.Equal(s.Stages(), one.Stages()) || !s.Created().Equal(one.Created()) {
			t.Errorf("a batch brought %+v, a call %+v", s, one)
		}
		if !s.Fetched().Equal(start) || s.Age() != 2*time.Second {
			t.Errorf("Fetched %v, Age %v; want the start of the call, 2s ago", s.Fetched(), s.Age())
		}
	})
}

// An answer that breaks off is most likely full of secrets.
func TestPrefetchUndecodableAnswerDoesNotShow(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	for _, body := range []string{
		`{"SecretValues":[{"Name":"a","SecretString":"` + sentinel,
		`{"SecretValues":[{"Name":"a","SecretString":{"` + sentinel + `":1}}]}`,
		`{"SecretValues":"` + sentinel + `"}`,
		`{"SecretValues":[{"Name":"a","VersionStages":"` + sentinel + `"}]}`,
		sentinel,
	} {
		client := srv.Client(func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
					Body: io.NopCloser(strings.NewReader(body)), Request: r,
				}, nil
			})
		})
		c, err := cache.New(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Prefetch(t.Context(), "a", "b")
		c.Close()
		if err == nil {
			t.Errorf("Prefetch of the answer %q succeeded", body)
			continue
		}
		leaktest.Check(t, sentinel, err)
		failed := joinedErrors(t, err)["a"]
		if failed == nil {
			t.Errorf("Prefetch: %v, want an error for each", err)
			continue
		}
		for err := error(failed); err != nil; err = errors.Unwrap(err) {
			leaktest.Check(t, sentinel, err)
		}
	}
}

func TestPrefetchUserAgent(t *testing.T) {
	var agents []string
	wrap := func(client *secretsmanager.Client) cache.API {
		return secretsmanager.New(client.Options(), func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				agents = append(agents, r.Header.Get("User-Agent"))
				return client.Options().HTTPClient.Do(r)
			})
		})
	}
	fleet(t, "", 2, nil, wrap, func(t *testing.T, _ *smtest.Server, c *cache.Cache, ids []string) {
		wantPrefetched(t, c, ids...)
		if len(agents) != 1 || !strings.Contains(agents[0], " keyturn/") {
			t.Errorf("user agents %q do not name keyturn", agents)
		}
	})
}
