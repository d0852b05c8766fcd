// Package cache keeps secrets of AWS Secrets Manager in process.
//
//	client := secretsmanager.NewFromConfig(cfg)
//	c, err := cache.New(client, nil)
//	...
//	s, err := c.Get(ctx, "prod/db")
//
// A value younger than Options.TTL costs a map lookup and a look at the clock. An
// older one is read again, with one call for all who want it. One permission is
// needed, secretsmanager:GetSecretValue, and with a KMS key of your own
// kms:Decrypt on that.
//
// # Freshness
//
// From about 0.8 TTL a read has the value refreshed behind it, so that under
// traffic nobody waits. Beyond the TTL a read waits for the refresh, but not
// longer than Options.StaleWait; once the service has failed to answer, throttled
// or failed, reads wait for nothing and the service is asked behind them with
// growing pauses, for as long as Options.MaxStale. A service that denies the
// secret, or does not know it, is not overruled: its error is what readers get.
// While the service answers, no read returns a value older than TTL, plus the
// pause in force (at most a minute), plus StaleWait.
//
// A password that a database refuses is worth a call before its time: see
// [Cache.Refresh], [Cache.RefreshIf] and [Cache.RefreshAfter].
//
// # Options
//
//	option        default    change it
//	TTL           5m         down to hear of a change sooner, up to make fewer calls
//	StaleWait     1s         to what a request may wait for; -1: nothing
//	MaxStale      24h        to how long an old value does in an outage; -1: not at all
//	MinRefresh    1s         to bound the calls that forced reads make; -1: no bound
//	FetchTimeout  10s        down where callers wait less, up for a slow network
//	MaxEntries    1024       to the number of secrets x labels in use; -1: no bound
//	Serverless    Auto       On where the process is frozen between requests, as in Lambda
//	ClientFor     -          for Regions that need another endpoint, role or account
//	Replicas      -          to go on reading replicated secrets while a Region is down
//	Validate      -          to keep a version out that would break the program
//	OnChange      -          to hear of a new version
//	Logger        -          to see reads (Debug), and what fails or is stale (Warn)
//
// # Names and ARNs
//
// A secret goes by its name, its ARN, or its ARN without the six characters at
// the end. What was read by the name answers for the ARN. An ARN answers for
// itself alone: another account's or Region's secret may have the same name. An
// ARN is read in its own Region; a secret of another account needs its full ARN.
//
// # Concurrency
//
// Everything here is safe for concurrent use. There is one call at a time per
// secret and label, on a context of its own: a reader that gives up harms no
// other reader, and waits no longer than its own context. No lock is held during
// a call. A Cache has no goroutine but those that make calls, and [Cache.Close]
// ends those and waits for them.
//
// # Errors
//
// A failed read is an [*Error]; it wraps the SDK's own and says what to do.
// [ErrNotFound] matches those that say that there is no such secret, version or
// label, and [ErrClosed] is all there is after Close. No error holds a value, and
// a [Secret] prints as "[redacted]".
package cache
