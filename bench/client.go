package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"

	"github.com/keyturn/keyturn/cache"
)

// A client is a Secrets Manager without latency that has every secret there is. It
// makes each answer when it is asked, of strings of their own as the SDK does, and
// keeps none: what a cache holds of them is the cache's.
type client struct {
	size    int          // of a value
	version atomic.Int64 // of every secret; a rotation of all of them adds one
	calls   atomic.Int64
}

const (
	arnPrefix     = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
	versionPrefix = "5f6d2a4e-0b7c-4f5a-9d3e-"
)

var created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *client) GetSecretValue(_ context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	c.calls.Add(1)
	v := c.value(*in.SecretId)
	return &secretsmanager.GetSecretValueOutput{
		ARN: v.ARN, Name: v.Name, VersionId: v.VersionId, VersionStages: v.VersionStages,
		CreatedDate: v.CreatedDate, SecretString: v.SecretString,
	}, nil
}

func (c *client) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	c.calls.Add(1)
	out := &secretsmanager.BatchGetSecretValueOutput{SecretValues: make([]types.SecretValueEntry, 0, len(in.SecretIdList))}
	for _, id := range in.SecretIdList {
		out.SecretValues = append(out.SecretValues, c.value(id))
	}
	return out, ctx.Err()
}

func (c *client) value(id string) types.SecretValueEntry {
	version := c.version.Load()
	return types.SecretValueEntry{
		ARN:           aws.String(arnPrefix + id + "-AbCdEf"),
		Name:          aws.String(strings.Clone(id)),
		VersionId:     aws.String(versionPrefix + strconv.FormatInt(1e11+version, 10)),
		VersionStages: []string{strings.Clone(cache.Current)},
		CreatedDate:   aws.Time(created.Add(time.Duration(version) * time.Second)),
		SecretString:  aws.String(strings.Repeat("v", c.size)),
	}
}

// An awsClient is the client as AWS's cache wants it: with six methods, of which it
// calls two.
type awsClient struct {
	secretcache.SecretsManagerAPIClient

	client *client
}

func (c awsClient) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return c.client.GetSecretValue(ctx, in)
}

func (c awsClient) DescribeSecret(_ context.Context, in *secretsmanager.DescribeSecretInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	c.client.calls.Add(1)
	v := c.client.value(*in.SecretId)
	return &secretsmanager.DescribeSecretOutput{
		ARN: v.ARN, Name: v.Name, CreatedDate: v.CreatedDate,
		VersionIdsToStages: map[string][]string{*v.VersionId: v.VersionStages},
	}, nil
}

// names returns so many secret IDs of 41 bytes, from the number first on. Each is a
// string of its own, and asked returns them once more: a cache that is asked for
// the very string that it keeps as its key is spared the comparison, by the runtime.
func names(first, count int) []string {
	ids := make([]string, count)
	for i := range ids {
		ids[i] = fmt.Sprintf("production/payments/postgres/app-%08d", first+i)
	}
	return ids
}

func asked(ids []string) []string {
	again := make([]string, len(ids))
	for i, id := range ids {
		again[i] = strings.Clone(id)
	}
	return again
}
