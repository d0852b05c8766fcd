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
// (cache.Options.TTL) make 10 minutes. To ask the agent costs nothing, so keep its
// TTL and give the cache 30 seconds. While Secrets Manager is down the agent answers
// with what it holds as if that were fresh, for as long as that lasts;
// cache.Options.MaxStale counts only while the agent itself does not answer.
//
// A forced read goes past the agent's cache (refreshNow), and leaves what it found
// there for all. A password that was refused is thus replaced at once. An agent that
// does not know refreshNow (one before version 1.1.0) is asked without it: a forced
// read then gets what it holds, up to its TTL old.
//
// # The token
//
// The agent's own rule: what AWS_TOKEN says, else AWS_SESSION_TOKEN, else
// AWS_CONTAINER_AUTHORIZATION_TOKEN, a value file:///path being read from that file;
// else the file /var/run/awssmatoken, whose readers are the group awssmatokenreader.
// It is looked for at each request, because an agent that restarts has a new one.
// It is sent to loopback addresses alone, through no proxy, and after no redirect.
//
// # Errors
//
// What Secrets Manager answered comes back as the SDK's error types, so that
// package cache tells a denial from an outage. All else, from a wrong token to an
// agent that is not running, counts as passing, and says what to do. No error holds
// the token or a value.
//
// The Lambda extension tells less: it has been seen to answer any failure with HTTP
// 400 and no code, and AWS does not say that it knows refreshNow. With it a label
// that does not exist is not cache.ErrNotFound, and a refused login of package dbconn
// waits its Patience. In Lambda the SDK's own client is the better choice: see
// docs/agent.md.
package agent
