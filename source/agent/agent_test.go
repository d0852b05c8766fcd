package agent_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
	"github.com/keyturn/keyturn/source/agent"
)

// client returns a client of the agent.
func (s *server) client() *agent.Client {
	return agent.New(&agent.Options{Endpoint: "http://" + s.address, Token: fixed("token")})
}

func fixed(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

func newCache(t *testing.T, api cache.API, opts *cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(api, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// everyRead makes a cache ask the agent at each read.
var everyRead = &cache.Options{TTL: -1, MinRefresh: -1}

func get(t *testing.T, c *cache.Cache, id string) *cache.Secret {
	t.Helper()
	s, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the agent passes on is what the service says, to the last field.
func TestSameAsTheService(t *testing.T) {
	s := start(t)
	s.Put("prod/text", `{"password":"`+strings.Repeat("\x01", 65_536-17)+`é"}`) // the longest, and each byte escaped
	first := s.Put("prod/db", "one")
	s.Put("prod/db", "two")
	sdk := s.Client()
	if _, err := sdk.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("prod/binary+=@"), SecretBinary: []byte{0, 1, 0xff},
	}); err != nil {
		t.Fatal(err)
	}
	for _, in := range []*secretsmanager.GetSecretValueInput{
		{SecretId: aws.String("prod/text")},
		{SecretId: aws.String("prod/db")},
		{SecretId: aws.String("prod/db"), VersionStage: aws.String("AWSCURRENT")},
		{SecretId: aws.String("prod/db"), VersionStage: aws.String("AWSPREVIOUS")},
		{SecretId: aws.String("prod/db"), VersionId: aws.String(first)},
		{SecretId: aws.String("prod/binary+=@")},
	} {
		want, err := sdk.GetSecretValue(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		want.ResultMetadata = middleware.Metadata{}
		got, err := s.client().GetSecretValue(t.Context(), in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %v, error %v, want %v", in, got, err, want)
		}
	}
}

// However many processes a host has, Secrets Manager is asked once.
func TestProcessesShare(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	for range 3 {
		c := newCache(t, s.client(), nil)
		for range 100 {
			if got := get(t, c, "prod/db").Text(); got != "one" {
				t.Errorf("got %q, want one", got)
			}
		}
	}
	if asked := s.asked(); len(asked) != 3 {
		t.Errorf("the agent was asked %d times, want once by each of 3 processes", len(asked))
	}
	if n := s.Count(""); n != 1 {
		t.Errorf("%d calls of the service, want 1", n)
	}
}

// The agent's TTL and the cache's add up, and no more than that.
func TestAgesAddUp(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, s.client(), &cache.Options{TTL: 30 * time.Second, Serverless: cache.On})
		wait := func(d time.Duration) {
			time.Sleep(d)
			s.advance(d)
		}
		get(t, newCache(t, s.client(), nil), "prod/db") // the agent has it from now on
		s.Put("prod/db", "two")
		wait(299 * time.Second)
		if got := get(t, c, "prod/db").Text(); got != "one" {
			t.Fatalf("after 299 s: got %q, want what the agent holds", got)
		}
		wait(29 * time.Second)
		if got := get(t, c, "prod/db").Text(); got != "one" {
			t.Errorf("after 328 s: got %q, want what the cache holds", got)
		}
		wait(2 * time.Second)
		if got := get(t, c, "prod/db").Text(); got != "two" {
			t.Errorf("after 330 s: got %q, want the new value", got)
		}
	})
}

// In an outage of Secrets Manager the agent goes on, and a cache cannot tell; a forced
// read fails, and leaves what is held.
func TestOutageBehindTheAgent(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	c := newCache(t, s.client(), &cache.Options{TTL: -1, MaxStale: -1, MinRefresh: -1})
	get(t, c, "prod/db")
	s.Inject(smtest.Fault{Err: smtest.InternalServiceError})
	s.advance(time.Hour)
	if got := get(t, c, "prod/db").Text(); got != "one" {
		t.Errorf("got %q, want what the agent holds", got)
	}
	_, err := c.Refresh(t.Context(), "prod/db")
	if _, ok := errors.AsType[*types.InternalServiceError](err); !ok {
		t.Errorf("a forced read: error %v, want the service's", err)
	}
}

// A forced read goes past the agent's cache, and all processes profit.
func TestForcedRead(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	c, other := newCache(t, s.client(), &cache.Options{MinRefresh: -1}), newCache(t, s.client(), everyRead)
	old := get(t, c, "prod/db")
	get(t, other, "prod/db")
	s.Put("prod/db", "two")
	if got := get(t, other, "prod/db").Text(); got != "one" {
		t.Fatalf("before the forced read: got %q, want what the agent holds", got)
	}
	s.asked()
	got, err := c.RefreshIf(t.Context(), "prod/db", old.VersionID())
	if err != nil || got.Text() != "two" {
		t.Fatalf("forced: got %v, error %v, want the new value", got, err)
	}
	if asked := s.asked(); !slices.Equal(asked, []string{"refreshNow=true&secretId=prod%2Fdb"}) {
		t.Errorf("the agent was asked %q", asked)
	}
	calls := s.Count("")
	if got := get(t, other, "prod/db").Text(); got != "two" || s.Count("") != calls {
		t.Errorf("another process: got %q and %d calls, want the new value and none", got, s.Count("")-calls)
	}
}

// An agent that does not know refreshNow is asked without it, and is not told of it
// again for a while.
func TestAgentWithoutRefresh(t *testing.T) {
	s := start(t)
	s.setOld(true)
	s.Put("prod/db", "one")
	forced, usual := "refreshNow=true&secretId=prod%2Fdb", "secretId=prod%2Fdb"
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, s.client(), everyRead)
		refresh := func(want ...string) {
			t.Helper()
			got, err := c.Refresh(t.Context(), "prod/db")
			if err != nil || got.Text() != "one" {
				t.Errorf("got %v, error %v, want one", got, err)
			}
			if asked := s.asked(); !slices.Equal(asked, want) {
				t.Errorf("asked %q, want %q", asked, want)
			}
		}
		refresh(forced, usual)
		refresh(usual)
		time.Sleep(9 * time.Minute)
		refresh(usual)
		time.Sleep(2 * time.Minute)
		refresh(forced, usual)
		s.setOld(false)
		time.Sleep(11 * time.Minute)
		refresh(forced)
		refresh(forced)
	})
}

// Versions and staging labels are found as in Secrets Manager itself.
func TestVersionsAndStages(t *testing.T) {
	s := start(t)
	first := s.Put("prod/db", "one")
	s.Put("prod/db", "two")
	c := newCache(t, s.client(), nil)
	for stage, want := range map[string]string{cache.Current: "two", cache.Previous: "one"} {
		got, err := c.GetStage(t.Context(), "prod/db", stage)
		if err != nil || got.Text() != want || !slices.Equal(got.Stages(), []string{stage}) {
			t.Errorf("%s: got %v %v, error %v, want %q", stage, got, got.Stages(), err, want)
		}
	}
	if got, err := c.GetVersion(t.Context(), "prod/db", first); err != nil || got.Text() != "one" {
		t.Errorf("the first version: got %v, error %v", got, err)
	}
	if _, err := c.GetStage(t.Context(), "prod/db", cache.Pending); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("AWSPENDING: error %v, want ErrNotFound", err)
	}
	if _, err := c.GetVersion(t.Context(), "prod/db", strings.Repeat("0", 32)); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("a version that does not exist: error %v, want ErrNotFound", err)
	}
	s.asked()
	if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Previous, time.Now()); err != nil {
		t.Error(err)
	}
	if asked := s.asked(); !slices.Equal(asked, []string{"refreshNow=true&secretId=prod%2Fdb&versionStage=AWSPREVIOUS"}) {
		t.Errorf("asked %q", asked)
	}
}

// What the service answers keeps its type, its code and its text on the way.
func TestServiceErrors(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	for _, test := range []struct {
		fault     *smtest.Error
		as        error // the SDK's type, if it has one
		transient bool
		advice    string
	}{
		{&smtest.Error{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find it."}, new(types.ResourceNotFoundException), false, "check the name"},
		{&smtest.Error{Code: "DecryptionFailure", Message: "no"}, new(types.DecryptionFailure), false, "kms:Decrypt"},
		{&smtest.Error{Code: "InvalidRequestException", Message: "marked"}, new(types.InvalidRequestException), false, "RestoreSecret"},
		{&smtest.Error{Code: "InvalidParameterException", Message: "bad"}, new(types.InvalidParameterException), false, "staging label"},
		{smtest.InternalServiceError, new(types.InternalServiceError), true, "on the server side"},
		{smtest.AccessDenied, nil, false, "add secretsmanager:GetSecretValue on arn:aws:secretsmanager:"},
		{smtest.AccessDeniedByKMS, nil, false, "KMS key policy"},
		{smtest.Throttling, nil, true, "Rate exceeded"},
		{&smtest.Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}, nil, true, "expired"},
		{&smtest.Error{Code: "AccessDeniedException", Message: `the "root" \ is denied` + "\n"}, nil, false, `the "root" \ is denied`},
		{&smtest.Error{Code: "SomethingNew", Message: "503", Status: 503}, nil, true, "SomethingNew: 503"},
		{&smtest.Error{Code: "Silent", Status: 500}, nil, true, "its log says why"},
	} {
		remove := s.Inject(smtest.Fault{Err: test.fault})
		c := newCache(t, s.client(), nil)
		_, err := c.Get(t.Context(), "prod/db")
		remove()
		var failed *cache.Error
		if !errors.As(err, &failed) {
			t.Fatalf("%s: error %v", test.fault.Code, err)
		}
		if failed.Transient != test.transient || !strings.Contains(err.Error(), test.advice) {
			t.Errorf("%s: transient %v, error %q; want %v and %q", test.fault.Code, failed.Transient, err, test.transient, test.advice)
		}
		if test.as != nil && reflect.TypeOf(failed.Err) != reflect.TypeOf(test.as) {
			t.Errorf("%s: error of type %T, want %T", test.fault.Code, failed.Err, test.as)
		}
		var api smithy.APIError
		if errors.As(err, &api); (api.ErrorFault() == smithy.FaultServer) != (test.fault.Status >= 500) {
			t.Errorf("%s: fault %v", test.fault.Code, api.ErrorFault())
		}
	}
}

// While the agent is away, what is held is served; when it is back, with a new token
// in the file, nobody has to do anything.
func TestAgentRestarts(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	token := tokenFile(t, "token\n")
	t.Setenv("AWS_TOKEN", "file://"+token)
	c := newCache(t, agent.New(&agent.Options{Endpoint: "http://" + s.address}), everyRead)
	get(t, c, "prod/db")

	s.stop()
	s.Put("prod/db", "two")
	if got := get(t, c, "prod/db").Text(); got != "one" {
		t.Errorf("without an agent: got %q, want what is held", got)
	}
	_, err := c.Refresh(t.Context(), "prod/db")
	if err == nil || !strings.Contains(err.Error(), "is the agent running") {
		t.Errorf("a forced read without an agent: error %v", err)
	}
	s.restart("another")
	writeToken(t, token, "another\n")
	if got, err := c.Refresh(t.Context(), "prod/db"); err != nil || got.Text() != "two" {
		t.Errorf("after the restart: got %v, error %v, want the new value", got, err)
	}
}

// A cold start without an agent says what to do, and does not last.
func TestColdStartWithoutAgent(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	s.stop()
	c := newCache(t, s.client(), everyRead)
	_, err := c.Refresh(t.Context(), "prod/db")
	var failed *cache.Error
	if !errors.As(err, &failed) || !failed.Transient || !strings.Contains(err.Error(), "connection refused; is the agent running, and on this port?") {
		t.Errorf("error %v, want a passing one that says what to do", err)
	}
	s.restart("token")
	if got, err := c.Refresh(t.Context(), "prod/db"); err != nil || got.Text() != "one" {
		t.Errorf("with an agent: got %v, error %v", got, err)
	}
}
