package cache

import (
	"context"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// staticVersion is the ID of the only version that a static secret has.
const staticVersion = "static"

// Static returns a client that holds the values of the map, under the secret IDs
// that are its keys, for work without an AWS account: from the environment, from a
// file. Each has one version, which is AWSCURRENT. It does no I/O and copies the
// map. For tests of rotation there is package smtest.
func Static(values map[string]string) API {
	values = maps.Clone(values)
	return &static{find: func(id string) (string, bool) {
		value, ok := values[id]
		return value, ok
	}}
}

type static struct {
	mark

	find func(id string) (string, bool) // a closure, which nothing prints
}

func (s *static) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id := aws.ToString(in.SecretId)
	value, ok := s.find(id)
	if !ok || in.VersionId != nil && *in.VersionId != staticVersion || in.VersionStage != nil && *in.VersionStage != Current {
		return nil, &types.ResourceNotFoundException{Message: aws.String("cache.Static has no such secret or version.")}
	}
	return &secretsmanager.GetSecretValueOutput{
		ARN: aws.String(id), Name: aws.String(id), VersionId: aws.String(staticVersion),
		VersionStages: []string{Current}, SecretString: aws.String(value),
	}, nil
}
