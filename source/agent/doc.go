// Package agent reads secrets from the AWS Secrets Manager Agent, or from the AWS
// Parameters and Secrets Lambda Extension, so that all processes of a host share
// what one of them has read. Its [Client] goes where a *secretsmanager.Client goes:
//
//	c, err := cache.New(agent.New(nil), &cache.Options{TTL: 30 * time.Second})
//
// The process needs no AWS credentials, but the agent's token. The agent needs
// secretsmanager:GetSecretValue and secretsmanager:DescribeSecret, and with a KMS
// key of your own kms:Decrypt on that.
//
// # Freshness
//
// The agent is a cache behind the cache, and their ages add up: 300 seconds
// (ttl_seconds of the agent, SECRETS_MANAGER_TTL of the extension) and 5 minutes
// (cache.Options.TTL) make 10 minutes. A read of the agent costs nothing, so keep
// the agent's TTL and give the cache 30 seconds. While Secrets Manager is down the
// agent answers with what it holds as if that were fresh: cache.Options.MaxStale
// counts for the time that the agent itself is down.
//
// A forced read goes past the agent's cache (refreshNow), and leaves what it found
// there for all. A password that was refused is thus replaced at once.
//
// # The token
//
// The agent's own rule: what AWS_TOKEN says, else AWS_SESSION_TOKEN, else
// AWS_CONTAINER_AUTHORIZATION_TOKEN, a value file:///path being read from that file;
// else the file /var/run/awssmatoken, whose readers are the group awssmatokenreader.
// It is looked for at each request, because an agent that restarts has a new one.
// It is sent to loopback addresses alone, through no proxy, and after no redirect.
//
// # The Lambda extension
//
// It has a version of its own of the agent's interface. It serves during an
// invocation, not before: read in the handler. It has been seen to answer any
// failure with HTTP 400 and no code, so that a secret that does not exist is not
// cache.ErrNotFound, and to ignore parameters that it does not know: a forced read
// may then get what it holds. A refused login of package dbconn waits its Patience
// for that to change. Set SECRETS_MANAGER_TTL low, or use the SDK's client: one
// process per sandbox has nobody to share with.
//
// # Errors
//
// What Secrets Manager answered comes back as the SDK's error types, so that
// package cache tells a denial from an outage. All else, from a wrong token to an
// agent that is not running, counts as passing, and says what to do. No error holds
// the token or a value.
package agent
