package rotation_test

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
)

const staleFor = time.Second

// stale answers reads, for a while after a write, with what was before it.
type stale struct {
	rotation.API

	token string
	fresh bool // DescribeSecret is not behind

	mu      sync.Mutex // protects following
	until   time.Time
	answers map[string]answer
}

type answer struct {
	out any
	err error
}

// remember asks what is there before a write.
func (s *stale) remember(ctx context.Context) {
	described, err := s.API.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(secretName)})
	answers := map[string]answer{"describe": {described, err}}
	for _, stage := range []string{"AWSCURRENT", "AWSPREVIOUS"} {
		out, err := s.API.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
			SecretId: aws.String(secretName), VersionStage: aws.String(stage),
		})
		answers[stage] = answer{out, err}
	}
	out, err := s.API.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(secretName), VersionId: aws.String(s.token),
	})
	answers[s.token] = answer{out, err}

	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().After(s.until) {
		s.answers, s.until = answers, time.Now().Add(staleFor)
	}
}

func (s *stale) old(key string) (answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.answers[key]
	return a, ok && time.Now().Before(s.until)
}

func (s *stale) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	if a, ok := s.old("describe"); ok && !s.fresh {
		return a.out.(*secretsmanager.DescribeSecretOutput), a.err
	}
	return s.API.DescribeSecret(ctx, in, opts...)
}

func (s *stale) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if a, ok := s.old(aws.ToString(in.VersionStage) + aws.ToString(in.VersionId)); ok {
		return a.out.(*secretsmanager.GetSecretValueOutput), a.err
	}
	return s.API.GetSecretValue(ctx, in, opts...)
}

func (s *stale) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	s.remember(ctx)
	return s.API.PutSecretValue(ctx, in, opts...)
}

func (s *stale) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	s.remember(ctx)
	return s.API.UpdateSecretVersionStage(ctx, in, opts...)
}

// recorder keeps the last PutSecretValue.
type recorder struct {
	rotation.API

	put *secretsmanager.PutSecretValueInput
}

func (r *recorder) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	r.put = in
	return r.API.PutSecretValue(ctx, in, opts...)
}

// managed says that the secret belongs to a service.
type managed struct{ rotation.API }

func (m managed) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	out, err := m.API.DescribeSecret(ctx, in, opts...)
	if err == nil {
		out.OwningService = aws.String("rds")
	}
	return out, err
}
