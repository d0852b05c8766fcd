package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"
)

// A client is one process's *secretsmanager.Client: it makes the attempts that the
// SDK makes, by the SDK's own retryer with its pauses and its bucket of tokens.
type client struct {
	secretcache.SecretsManagerAPIClient // nil: AWS's cache wants more methods than it calls

	service *service
	retryer *retry.Standard
	read    []atomic.Int64 // when each secret was last read, since the start; negative: not yet
}

func newClient(s *service) *client {
	c := &client{service: s, retryer: retry.NewStandard(), read: make([]atomic.Int64, s.plan.secrets)}
	for i := range c.read {
		c.read[i].Store(-1)
	}
	return c
}

// age returns how long ago the secret was read, and false if it was not.
func (c *client) age(secret int) (time.Duration, bool) {
	at := time.Duration(c.read[secret].Load())
	return time.Since(c.service.start) - at, at >= 0
}

func (c *client) note(secret int, began time.Time) {
	c.read[secret].Store(int64(began.Sub(c.service.start)))
}

// attempt calls the operation as often as the SDK would, and gives back the tokens
// that the SDK does.
func (c *client) attempt(ctx context.Context, op operation) error {
	var giveBack func(error) error
	for n := 1; ; n++ {
		ended, err := c.retryer.GetAttemptToken(ctx)
		if err != nil {
			return err
		}
		err = c.service.call(op)
		_ = ended(err)
		if giveBack != nil {
			_ = giveBack(err)
		}
		if err == nil || n == c.retryer.MaxAttempts() || !c.retryer.IsErrorRetryable(err) {
			return err
		}
		var none error
		if giveBack, none = c.retryer.GetRetryToken(ctx, err); none != nil {
			return err
		}
		pause, none := c.retryer.RetryDelay(n, err)
		if none != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (c *client) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	began := time.Now()
	if err := c.attempt(ctx, getSecretValue); err != nil {
		return nil, err
	}
	secret := secretNumber(aws.ToString(in.SecretId))
	c.note(secret, began)
	v := c.service.value(secret)
	return &secretsmanager.GetSecretValueOutput{
		ARN: v.ARN, Name: v.Name, VersionId: v.VersionId, VersionStages: v.VersionStages,
		CreatedDate: v.CreatedDate, SecretString: v.VersionId,
	}, nil
}

func (c *client) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	began := time.Now()
	if err := c.attempt(ctx, describeSecret); err != nil {
		return nil, err
	}
	secret := secretNumber(aws.ToString(in.SecretId))
	c.note(secret, began)
	v := c.service.value(secret)
	return &secretsmanager.DescribeSecretOutput{
		ARN: v.ARN, Name: v.Name, CreatedDate: v.CreatedDate,
		VersionIdsToStages: map[string][]string{*v.VersionId: v.VersionStages},
	}, nil
}

func (c *client) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	began := time.Now()
	if err := c.attempt(ctx, batchGetSecretValue); err != nil {
		return nil, err
	}
	out := &secretsmanager.BatchGetSecretValueOutput{SecretValues: make([]types.SecretValueEntry, 0, len(in.SecretIdList))}
	for _, id := range in.SecretIdList {
		c.note(secretNumber(id), began)
		out.SecretValues = append(out.SecretValues, c.service.value(secretNumber(id)))
	}
	return out, nil
}
