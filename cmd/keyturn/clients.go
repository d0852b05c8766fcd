package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/term"

	"github.com/keyturn/keyturn/internal/useragent"
)

// secretsAPI is what a check asks of Secrets Manager: nothing that changes anything.
type secretsAPI interface {
	DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
	ListSecretVersionIds(context.Context, *secretsmanager.ListSecretVersionIdsInput, ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretVersionIdsOutput, error)
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// identityAPI is what it asks of STS.
type identityAPI interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

type clients struct {
	secrets  secretsAPI
	identity identityAPI
	region   string
}

// system returns the deps of the program as a user runs it.
func system() deps {
	d := deps{connect: connect, now: time.Now}
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		d.width, _, _ = term.GetSize(fd)
	}
	return d
}

// connect makes the clients as the AWS CLI would, but for the Region: that of an
// ARN goes before what is configured, because the secret is nowhere else.
func connect(ctx context.Context, s settings) (clients, error) {
	region := s.region
	if id, err := arn.Parse(s.secret); err == nil && region == "" {
		region = id.Region
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithSharedConfigProfile(s.profile))
	if err != nil {
		return clients{}, fmt.Errorf("the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return clients{}, errors.New("no Region is configured: give -region, or set AWS_REGION")
	}
	if s.endpoint != "" {
		cfg.BaseEndpoint = &s.endpoint
	}
	return clients{
		secrets:  secretsmanager.NewFromConfig(cfg, useragent.Tag),
		identity: sts.NewFromConfig(cfg),
		region:   cfg.Region,
	}, nil
}
