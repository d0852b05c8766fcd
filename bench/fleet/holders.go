package main

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"

	"github.com/keyturn/keyturn/cache"
)

// A holder is what a process keeps its secrets in.
type holder interface {
	get(ctx context.Context, secret int) (versionID string, err error)
	refused(ctx context.Context, secret int, versionID string) // the database does not take that version
	close()
}

// A variant is a way to set up a process.
type variant struct {
	name  string
	key   string // for -variants
	ttl   time.Duration
	quiet float64 // the part of the TTL before which a read surely makes no call
	open  func(ctx context.Context, v variant, c *client) (holder, error)
}

const (
	short = 5 * time.Minute // Keyturn's default, and the agent's
	long  = time.Hour       // the default of AWS's caching clients
)

var variants = []variant{
	{"Keyturn, TTL 5 min", "keyturn-5m", short, 0.75, openCache},
	{"Keyturn, TTL 5 min, Prefetch", "prefetch-5m", short, 0.75, openPrefetched},
	{"Keyturn, TTL 1 h", "keyturn-1h", long, 0.75, openCache},
	{"Keyturn, TTL 1 h, Prefetch", "prefetch-1h", long, 0.75, openPrefetched},
	{"fixed TTL of 5 min", "fixed-5m", short, 1, openFixed},
	{"fixed TTL of 1 h", "fixed-1h", long, 1, openFixed},
	{"AWS's client for Go, TTL 1 h", "aws-1h", long, 0.5, openAWS},
}

// A cached process uses Keyturn's cache.
type cached struct {
	cache   *cache.Cache
	handles []*cache.Handle
}

func openCache(_ context.Context, v variant, c *client) (holder, error) {
	made, err := cache.New(c, &cache.Options{TTL: v.ttl, Serverless: cache.Off})
	if err != nil {
		return nil, err
	}
	h := &cached{cache: made}
	for secret := range c.service.plan.secrets {
		h.handles = append(h.handles, made.Handle(secretName(secret)))
	}
	return h, nil
}

func openPrefetched(ctx context.Context, v variant, c *client) (holder, error) {
	h, err := openCache(ctx, v, c)
	if err != nil {
		return nil, err
	}
	var ids []string
	for secret := range c.service.plan.secrets {
		ids = append(ids, secretName(secret))
	}
	// What it could not read, the first read of it does: its error is no matter.
	_ = h.(*cached).cache.Prefetch(ctx, ids...)
	return h, nil
}

func (h *cached) get(ctx context.Context, secret int) (string, error) {
	s, err := h.handles[secret].Get(ctx)
	if err != nil {
		return "", err
	}
	return s.VersionID(), nil
}

// refused does as package retry does, whose first step after a refusal is this one.
func (h *cached) refused(ctx context.Context, secret int, versionID string) {
	_, _ = h.cache.RefreshIf(ctx, secretName(secret), versionID)
}

func (h *cached) close() { h.cache.Close() }

// A fixed process uses the simplest cache there is, the model of a client without
// jitter: what was read is kept for its TTL, and read again when somebody asks for it
// after that. Nothing is read ahead of time, and a value beyond its TTL is kept while
// the service fails, without a back-off. AWS's agent and Powertools work along these
// lines; the agent refreshes by DescribeSecret, which the same quota is for.
type fixed struct {
	client *client
	ttl    time.Duration
	held   []fixedEntry
}

type fixedEntry struct {
	mu      sync.Mutex // protects following; not held across a call
	version string
	expires time.Time
}

func openFixed(_ context.Context, v variant, c *client) (holder, error) {
	return &fixed{client: c, ttl: v.ttl, held: make([]fixedEntry, c.service.plan.secrets)}, nil
}

func (h *fixed) get(ctx context.Context, secret int) (string, error) {
	e := &h.held[secret]
	e.mu.Lock()
	version, expires := e.version, e.expires
	e.mu.Unlock()
	if version != "" && time.Now().Before(expires) {
		return version, nil
	}
	return h.read(ctx, secret)
}

func (h *fixed) read(ctx context.Context, secret int) (string, error) {
	e := &h.held[secret]
	began := time.Now()
	out, err := h.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(secretName(secret))})
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.version, e.expires = aws.ToString(out.VersionId), began.Add(h.ttl)
	}
	if e.version == "" {
		return "", err
	}
	return e.version, nil
}

func (h *fixed) refused(ctx context.Context, secret int, _ string) { _, _ = h.read(ctx, secret) }

func (h *fixed) close() {}

// An official process uses AWS's own client.
type official struct{ cache *secretcache.Cache }

func openAWS(_ context.Context, v variant, c *client) (holder, error) {
	made, err := secretcache.New(func(a *secretcache.Cache) { a.Client, a.CacheItemTTL = c, int64(v.ttl) })
	return &official{made}, err
}

// The client's GetSecretValue puts the version into the value, too: nothing else of
// it comes out here.
func (h *official) get(ctx context.Context, secret int) (string, error) {
	return h.cache.GetSecretStringWithContext(ctx, secretName(secret))
}

// refused waits no longer than ctx, which the client does not look at: after an error
// it may sleep for years, as it takes nanoseconds for milliseconds there.
func (h *official) refused(ctx context.Context, secret int, _ string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.cache.RefreshNowWithContext(ctx, secretName(secret))
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (h *official) close() {}
