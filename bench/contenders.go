package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"

	"github.com/keyturn/keyturn/cache"
)

// The secrets that reads are measured with are not read again meanwhile.
const ttl = 24 * time.Hour

// A snapshot is the floor under every cache that is keyed by a string and has a
// TTL: a map that is never written to, found by one atomic load, and one look at
// the clock. It is no cache: nothing can be added to it.
type snapshot struct {
	secrets atomic.Pointer[map[string]*cache.Secret]
	start   time.Time
}

func newSnapshot(c *cache.Cache, ids []string) (*snapshot, error) {
	secrets := make(map[string]*cache.Secret, len(ids))
	for _, id := range ids {
		s, err := c.Get(context.Background(), id)
		if err != nil {
			return nil, err
		}
		secrets[id] = s
	}
	f := &snapshot{start: time.Now()}
	f.secrets.Store(&secrets)
	return f, nil
}

// Get has the signature of [cache.Cache.Get]: passing three words in and three
// out is not what is to be measured.
func (f *snapshot) Get(_ context.Context, id string) (*cache.Secret, error) {
	s := (*f.secrets.Load())[id]
	if s == nil || time.Since(f.start) >= ttl {
		return nil, cache.ErrNotFound
	}
	return s, nil
}

// Login is what the secret is decoded into.
type login struct {
	Username string
	Password cache.Redacted
}

// Subjects are what is measured, all with the same secrets in them.
type subjects struct {
	ids []string

	start time.Time // for time.Since alone
	floor *snapshot
	cache *cache.Cache
	aws   *secretcache.Cache

	// Of the first secret.
	handle *cache.Handle
	value  *cache.Value[login]
}

func newSubjects(keys int) (*subjects, error) {
	ids := names(0, keys)
	// Serverless is off whatever the environment says: that mode looks at both clocks.
	opts := &cache.Options{TTL: ttl, MaxEntries: -1, Serverless: cache.Off}
	c, err := cache.New(&client{size: 64}, opts)
	if err != nil {
		return nil, err
	}
	s := &subjects{ids: asked(ids), start: time.Now(), cache: c, handle: c.Handle(ids[0])}
	if s.floor, err = newSnapshot(c, ids); err != nil {
		return nil, err
	}
	s.aws, err = secretcache.New(func(a *secretcache.Cache) {
		a.Client = awsClient{client: &client{size: 64}}
		a.MaxCacheSize = keys
		a.CacheItemTTL = int64(ttl)
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := s.aws.GetSecretString(id); err != nil {
			return nil, fmt.Errorf("AWS's client: %w", err)
		}
	}
	// One secret that can be decoded, in a cache of its own.
	decodable, err := cache.New(cache.Static(map[string]string{ids[0]: `{"username": "app", "password": "p"}`}), opts)
	if err != nil {
		return nil, err
	}
	s.value = cache.JSON[login](decodable, ids[0])
	_, err = s.value.Get(context.Background())
	return s, err
}

// A contender makes n reads, beginning with the secret at. Each is a loop of its
// own around a direct call, so that all carry the same load: of the loop, and of
// none through a function value.
type contender func(s *subjects, at, n int)

func runFloor(s *subjects, at, n int) {
	ctx := context.Background()
	var secret *cache.Secret
	var err error
	for range n {
		if secret, err = s.floor.Get(ctx, s.ids[at]); err != nil {
			panic(err)
		}
		if at++; at == len(s.ids) {
			at = 0
		}
	}
	runtime.KeepAlive(secret)
}

func runGet(s *subjects, at, n int) {
	ctx := context.Background()
	var secret *cache.Secret
	var err error
	for range n {
		if secret, err = s.cache.Get(ctx, s.ids[at]); err != nil {
			panic(err)
		}
		if at++; at == len(s.ids) {
			at = 0
		}
	}
	runtime.KeepAlive(secret)
}

func runAWS(s *subjects, at, n int) {
	ctx := context.Background()
	var text string
	var err error
	for range n {
		if text, err = s.aws.GetSecretStringWithContext(ctx, s.ids[at]); err != nil {
			panic(err)
		}
		if at++; at == len(s.ids) {
			at = 0
		}
	}
	runtime.KeepAlive(text)
}

func runSince(s *subjects, _, n int) {
	var d time.Duration
	for range n {
		if d = time.Since(s.start); d < 0 {
			panic("the clock went back")
		}
	}
	runtime.KeepAlive(d)
}

func runHandle(s *subjects, _, n int) {
	ctx := context.Background()
	var secret *cache.Secret
	var err error
	for range n {
		if secret, err = s.handle.Get(ctx); err != nil {
			panic(err)
		}
	}
	runtime.KeepAlive(secret)
}

func runPeek(s *subjects, _, n int) {
	var secret *cache.Secret
	var ok bool
	for range n {
		if secret, ok = s.handle.Peek(); !ok {
			panic("nothing is held")
		}
	}
	runtime.KeepAlive(secret)
}

func runValue(s *subjects, _, n int) {
	ctx := context.Background()
	var v login
	var err error
	for range n {
		if v, err = s.value.Get(ctx); err != nil {
			panic(err)
		}
	}
	runtime.KeepAlive(v)
}
