package smtest

import "time"

// A quota is a rate of requests that some operations have together.
type quota struct {
	group string
	rate  float64 // per second, in each account and Region
}

// quotas are those of "AWS Secrets Manager quotas" in the User Guide, by operation.
// None of them can be raised.
var quotas = quotasOf(map[string]float64{"read": 10000, "batch": 100, "list": 100}, map[string]string{
	"GetSecretValue": "read",
	"DescribeSecret": "read",

	"BatchGetSecretValue": "batch",
	"ListSecrets":         "list",

	"PutSecretValue":               "write",
	"UpdateSecret":                 "write",
	"UpdateSecretVersionStage":     "write",
	"ReplicateSecretToRegions":     "write",
	"RemoveRegionsFromReplication": "write",
	"StopReplicationToReplica":     "write",

	"PutResourcePolicy":      "policy",
	"GetResourcePolicy":      "policy",
	"DeleteResourcePolicy":   "policy",
	"ValidateResourcePolicy": "policy",

	"RotateSecret":       "rotate",
	"CancelRotateSecret": "rotate",

	"TagResource":   "tag",
	"UntagResource": "tag",

	"CreateSecret":         "create",
	"DeleteSecret":         "delete",
	"RestoreSecret":        "restore",
	"ListSecretVersionIds": "versions",
	"GetRandomPassword":    "password",
})

// quotasOf gives each operation the quota of its group: 50 a second if rates says
// nothing else.
func quotasOf(rates map[string]float64, groups map[string]string) map[string]quota {
	out := make(map[string]quota)
	for operation, group := range groups {
		rate := rates[group]
		if rate == 0 {
			rate = 50
		}
		out[operation] = quota{group, rate}
	}
	return out
}

// overQuotaLocked reports whether a request is one too many. It is the caller's
// account that counts, also for another account's secret.
func (s *Server) overQuotaLocked(req *request) bool {
	if !s.opts.ServiceQuotas {
		return false
	}
	q, ok := quotas[req.operation]
	return ok && !s.buckets.take(req.store.place, q.group, q.rate)
}

// buckets are token buckets, one for each account, Region and group.
type buckets map[bucketKey]*bucket

type bucketKey struct {
	place

	group string
}

// A bucket holds what may still be taken.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes a token, and reports whether there was one. A bucket holds the tokens
// of one second, one token at least.
func (b *buckets) take(at place, group string, rate float64) bool {
	if *b == nil {
		*b = make(buckets)
	}
	now, size := time.Now(), max(rate, 1)
	one := (*b)[bucketKey{at, group}]
	if one == nil {
		one = &bucket{tokens: size, at: now}
		(*b)[bucketKey{at, group}] = one
	}
	one.tokens = min(size, one.tokens+max(now.Sub(one.at), 0).Seconds()*rate)
	one.at = now
	if one.tokens < 1 {
		return false
	}
	one.tokens--
	return true
}
