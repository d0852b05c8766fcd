package otel

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// Observe reports the counts of [cache.Stats] each time metrics are collected, and
// the state and age of Options.Secrets. It waits for nothing and reads no secret;
// each of those takes a place among what the Cache holds. Call stop, which may be
// called more than once, when the Cache is closed. The error is about c or the
// instruments.
func Observe(c *cache.Cache, opts *Options) (stop func() error, err error) {
	if c == nil {
		return nil, errors.New("otel: Observe needs a cache")
	}
	o := opts.withDefaults()
	m := &maker{opts: o, meter: o.meter()}
	const calls = "Calls of GetSecretValue and BatchGetSecretValue."
	totals := countsOf(m, c.Stats)
	totals.add("keyturn.cache.calls", "{call}", calls, func(s cache.Stats) uint64 { return s.Calls }, semconv.RPCMethod("GetSecretValue"))
	totals.add("keyturn.cache.calls", "{call}", calls, func(s cache.Stats) uint64 { return s.BatchCalls }, semconv.RPCMethod("BatchGetSecretValue"))
	totals.add("keyturn.cache.failures", "{read}", "Reads from the service that failed.", func(s cache.Stats) uint64 { return s.Failures })
	totals.add("keyturn.cache.waits", "{read}", "Reads that waited for a call.", func(s cache.Stats) uint64 { return s.Waits })
	totals.add("keyturn.cache.stale_reads", "{read}", "Reads that returned a value beyond its TTL.", func(s cache.Stats) uint64 { return s.Stale })
	totals.add("keyturn.cache.changes", "{version}", "Versions that were replaced by another.", func(s cache.Stats) uint64 { return s.Changes })
	totals.add("keyturn.cache.rejections", "{version}", "Versions that Options.Validate rejected.", func(s cache.Stats) uint64 { return s.Rejections })
	totals.add("keyturn.cache.evictions", "{entry}", "Entries that went for want of room.", func(s cache.Stats) uint64 { return s.Evictions })
	m.entries(c)
	m.secrets(c)
	return m.register()
}

// ObserveRetry reports the counts of stats each time metrics are collected: those
// that events do not tell of. Give it the one that retry.Options, or the Options of
// a package under dbconn, have as Stats. Else as [Observe].
func ObserveRetry(stats *retry.Stats, opts *Options) (stop func() error, err error) {
	if stats == nil {
		return nil, errors.New("otel: ObserveRetry needs a *retry.Stats: the one in the Options of what logs in")
	}
	o := opts.withDefaults()
	m := &maker{opts: o, meter: o.meter()}
	const logins = "Logins that have ended."
	totals := countsOf(m, stats.Snapshot)
	totals.add("keyturn.retry.logins", "{login}", logins, func(n retry.Counts) uint64 { return n.Accepted }, outcomeKey.String("accepted"))
	totals.add("keyturn.retry.logins", "{login}", logins, func(n retry.Counts) uint64 { return n.Refused }, outcomeKey.String("refused"))
	totals.add("keyturn.retry.logins", "{login}", logins, func(n retry.Counts) uint64 { return n.NoVerdict }, outcomeKey.String("no_verdict"))
	totals.add("keyturn.retry.waits", "{login}", "Logins that waited for the verdict on another.", func(n retry.Counts) uint64 { return n.Waits })
	totals.add("keyturn.retry.polls", "{wait}", "Waits for the end of a rotation, every version being refused.", func(n retry.Counts) uint64 { return n.Polls })
	return m.register()
}

// A maker makes instruments, and keeps what to observe them with.
type maker struct {
	opts        Options // complete
	meter       metric.Meter
	instruments []metric.Observable
	observe     []func(metric.Observer)
	err         error // the first
}

// made keeps an instrument, unless there is none.
func (m *maker) made(instrument metric.Observable, err error) {
	if m.err == nil {
		m.err = err
	}
	m.instruments = append(m.instruments, instrument)
}

// counts are counters that are read together, once at each collection.
type counts[T any] struct {
	*maker

	series []func(metric.Observer, T)
}

// countsOf makes one, for what read returns.
func countsOf[T any](m *maker, read func() T) *counts[T] {
	c := &counts[T]{maker: m}
	m.observe = append(m.observe, func(o metric.Observer) {
		now := read()
		for _, observe := range c.series {
			observe(o, now)
		}
	})
	return c
}

// add makes a counter, or adds a series to the one of that name.
func (c *counts[T]) add(name, unit, description string, of func(T) uint64, attrs ...attribute.KeyValue) {
	counter, err := c.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	c.made(counter, err)
	set := c.opts.set(attrs...)
	c.series = append(c.series, func(o metric.Observer, now T) {
		o.ObserveInt64(counter, int64(of(now)), set) //nolint:gosec // No count comes near 1<<63.
	})
}

// entries makes the instrument for what a cache holds.
func (m *maker) entries(c *cache.Cache) {
	held, err := m.meter.Int64ObservableUpDownCounter("keyturn.cache.entries", metric.WithUnit("{entry}"),
		metric.WithDescription("What is held, as Options.MaxEntries counts."))
	m.made(held, err)
	set := m.opts.set()
	m.observe = append(m.observe, func(o metric.Observer) { o.ObserveInt64(held, int64(c.Stats().Entries), set) })
}

// secrets makes the instruments for Options.Secrets, if there are any.
func (m *maker) secrets(c *cache.Cache) {
	ids := slices.Compact(slices.Sorted(slices.Values(m.opts.Secrets)))
	if len(ids) == 0 {
		return
	}
	states, err := m.meter.Int64ObservableUpDownCounter("keyturn.cache.secrets", metric.WithUnit("{secret}"),
		metric.WithDescription("The observed secrets in a state."))
	m.made(states, err)
	ages, err := m.meter.Float64ObservableGauge("keyturn.cache.secret.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the start of the call that read the value; if secrets are not told apart, of the oldest."))
	m.made(ages, err)
	var all []*cache.Handle
	for _, id := range ids {
		h := c.Handle(id)
		if m.opts.SecretIDs {
			m.observe = append(m.observe, m.group([]*cache.Handle{h}, states, ages, secretIDKey.String(id)))
		}
		all = append(all, h)
	}
	if !m.opts.SecretIDs {
		m.observe = append(m.observe, m.group(all, states, ages))
	}
}

// allStates are reported whether a secret is in them or not: an alert on a series
// that only begins with the outage would miss its beginning.
var allStates = [...]cache.State{cache.Fresh, cache.Aging, cache.Expired, cache.Failing, cache.Dead}

// group returns what observes handles that are not told apart.
func (m *maker) group(handles []*cache.Handle, states metric.Int64Observable, ages metric.Float64Observable, attrs ...attribute.KeyValue) func(metric.Observer) {
	set := m.opts.set(attrs...)
	var sets [len(allStates)]metric.MeasurementOption
	for i, state := range allStates {
		sets[i] = m.opts.set(append(slices.Clip(attrs), stateKey.String(string(state)))...)
	}
	return func(o metric.Observer) {
		var counts [len(allStates)]int64
		held, oldest := false, time.Duration(0)
		for _, h := range handles {
			status := h.Status()
			if errors.Is(status.Err, cache.ErrClosed) {
				return // all would be dead, and wake somebody up at each deploy
			}
			if status.VersionID == "" && status.Err == nil {
				continue // dead, as nothing is held, but only because nobody has read it yet
			}
			if i := slices.Index(allStates[:], status.State); i >= 0 {
				counts[i]++
			}
			if status.VersionID != "" {
				held, oldest = true, max(oldest, status.Age)
			}
		}
		for i, n := range counts {
			o.ObserveInt64(states, n, sets[i])
		}
		if held {
			o.ObserveFloat64(ages, oldest.Seconds(), set)
		}
	}
}

// register has everything observed from now on.
func (m *maker) register() (stop func() error, err error) {
	if m.err != nil {
		return nil, m.err
	}
	registration, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, observe := range m.observe {
			observe(o)
		}
		return nil
	}, m.instruments...)
	if err != nil {
		return nil, err
	}
	return registration.Unregister, nil
}
