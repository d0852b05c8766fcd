package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/cache"
)

// An operation of the service that the fleet calls.
type operation int

const (
	getSecretValue operation = iota
	describeSecret
	batchGetSecretValue
	operations
)

func (o operation) String() string {
	return [...]string{"GetSecretValue", "DescribeSecret", "BatchGetSecretValue"}[o]
}

// The service's quotas, a second, per account and Region: GetSecretValue and
// DescribeSecret have one together. See "AWS Secrets Manager quotas" in its user guide.
const (
	readQuota  = 10_000
	batchQuota = 100
)

// A service is Secrets Manager as far as the fleet sees it: its quotas, how long it
// takes to answer, its outage, and which version of a secret is current. The test
// server of package smtest speaks HTTP, at fifty times the price of a call.
type service struct {
	plan  *plan
	start time.Time

	// rotated are closed when the secret of that number is.
	rotated []chan struct{}

	mu     sync.Mutex // protects following
	counts [operations]series
	denied [operations]series // of these, those beyond the quota
	now    []bool             // of each secret: its rotation is over
}

func newService(p *plan) *service {
	s := &service{plan: p, start: time.Now(), now: make([]bool, p.secrets)}
	seconds := int(p.day/time.Second) + 1
	for op := range operations {
		s.counts[op], s.denied[op] = make(series, seconds), make(series, seconds)
	}
	for range p.secrets {
		s.rotated = append(s.rotated, make(chan struct{}))
	}
	return s
}

// rotate gives a secret its second version.
func (s *service) rotate(secret int) {
	s.mu.Lock()
	s.now[secret] = true
	s.mu.Unlock()
	close(s.rotated[secret])
}

// version returns the ID of the version that the secret has now, which is the one
// that the database accepts.
func (s *service) version(secret int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return versionID(s.now[secret])
}

func versionID(rotated bool) string {
	if rotated {
		return "5f6d2a4e-0b7c-4f5a-9d3e-000000000002"
	}
	return "5f6d2a4e-0b7c-4f5a-9d3e-000000000001"
}

// The errors are the SDK's, as its retryer and the cache take them apart.
var (
	errThrottled = &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusBadRequest}},
		Err:      &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"},
	}
	errOutage = &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusInternalServerError}},
		Err:      &types.InternalServiceError{Message: aws.String("An internal error occurred")},
	}
)

// call is one attempt at an operation: it takes its time, and counts.
func (s *service) call(op operation) error {
	time.Sleep(10*time.Millisecond + rand.N(20*time.Millisecond))
	at := time.Since(s.start)
	second := int(at / time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if second >= len(s.counts[op]) {
		return errOutage // the day is over
	}
	s.counts[op][second]++
	used, quota := s.counts[op][second]-s.denied[op][second], batchQuota
	if op != batchGetSecretValue {
		other := describeSecret - op
		used += s.counts[other][second] - s.denied[other][second]
		quota = readQuota
	}
	if s.plan.enforce && int(used)*s.plan.weight > quota {
		s.denied[op][second]++
		return errThrottled
	}
	if at >= s.plan.outage && at < s.plan.outage+s.plan.outageFor {
		return errOutage
	}
	return nil
}

// value is what the service answers for a secret.
func (s *service) value(secret int) types.SecretValueEntry {
	name := secretName(secret)
	return types.SecretValueEntry{
		ARN:  aws.String("arn:aws:secretsmanager:us-east-1:123456789012:secret:" + name + "-AbCdEf"),
		Name: aws.String(name), VersionId: aws.String(s.version(secret)), VersionStages: []string{cache.Current},
		SecretString: aws.String("v"), CreatedDate: &s.start,
	}
}

func secretName(secret int) string { return fmt.Sprintf("prod/app-%02d", secret) }

func secretNumber(name string) int {
	return int(name[len(name)-2]-'0')*10 + int(name[len(name)-1]-'0')
}
