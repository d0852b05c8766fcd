// Package cache keeps secrets of AWS Secrets Manager in process.
//
// A [Cache] stands over a client of one method, which [*secretsmanager.Client]
// satisfies, and remembers what GetSecretValue returned:
//
//	client := secretsmanager.NewFromConfig(cfg)
//	c, err := cache.New(client, nil)
//	...
//	s, err := c.Get(ctx, "prod/db")
//
// A value younger than Options.TTL costs a map lookup and a look at the clock.
// An older one is read again when a reader wants it, and all who want it
// meanwhile share that one call: one per secret, staging label and TTL. One
// permission is needed, secretsmanager:GetSecretValue, and with a KMS key of your
// own kms:Decrypt on that.
//
// # Outages
//
// A value beyond its TTL is better than none. A reader waits Options.StaleWait for
// a newer one, and no longer; once a call has failed because the service did not
// answer, throttled or failed, readers wait for nothing, and the service is asked
// behind them with growing pauses. So it goes on for Options.MaxStale. A service
// that denies access, or does not know the secret, is not overruled: its error is
// what readers get.
//
// # Forced reads
//
// A password that a database refuses is worth a call before its time is up.
// [Cache.Refresh] makes it, [Cache.RefreshIf] makes it once for all whose
// password was of the same version, and [Cache.RefreshAfter] makes it unless
// somebody has since a given instant. What they return was read after they were
// called: a call that was under way, and may have seen the labels as they were,
// is waited out.
//
// # Concurrency
//
// Everything here is safe for concurrent use. There is one call at a time per
// secret and staging label, on a context of its own: a reader that gives up
// harms no other reader, and waits no longer than its own context. No lock is
// held during a call. A Cache has no goroutine but those that make calls, and
// [Cache.Close] ends those and waits for them.
//
// # Errors
//
// A failed read is an [*Error]; it wraps the SDK's own. [ErrNotFound] matches
// those that say that there is no such secret, version or label, and
// [ErrClosed] is all there is after Close. No error holds a value, and a
// [Secret] prints as "[redacted]" wherever it is printed.
package cache
