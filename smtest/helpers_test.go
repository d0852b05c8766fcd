package smtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/smtest"
)

// newServer returns a server that is closed at the end of the test, and a client
// that does not retry.
func newServer(t *testing.T) (*smtest.Server, *sm.Client) {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	return srv, client(srv)
}

func client(srv *smtest.Server) *sm.Client {
	return srv.Client(func(o *sm.Options) { o.RetryMaxAttempts = 1 })
}

// ver makes a version id of a short name, which versions and lists show again.
func ver(name string) string {
	return name + strings.Repeat("-", 36-len(name))
}

func short(id string) string {
	return strings.TrimRight(id, "-")
}

// versions shows all versions of a secret with their labels, those without too:
// "a:AWSPREVIOUS b:AWSCURRENT,x c:".
func versions(t *testing.T, c *sm.Client, id string) string {
	t.Helper()
	out, err := c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{
		SecretId: aws.String(id), IncludeDeprecated: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, v := range out.Versions {
		slices.Sort(v.VersionStages)
		all = append(all, short(*v.VersionId)+":"+strings.Join(v.VersionStages, ","))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func read(ctx context.Context, c *sm.Client, id string) (string, error) {
	out, err := c.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: aws.String(id)})
	if err != nil {
		return "", err
	}
	return *out.SecretString, nil
}

// wantValue checks what a plain read of the secret returns.
func wantValue(t *testing.T, c *sm.Client, id, want string) {
	t.Helper()
	got, err := read(t.Context(), c, id)
	if got != want || err != nil {
		t.Errorf("GetSecretValue(%q) = %q, %v, want %q", id, got, err, want)
	}
}

// apiError is the error answer as the SDK understood it: "Code: message".
func apiError(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode() + ": " + e.ErrorMessage()
	}
	return fmt.Sprintf("no API error: %v", err)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if got := apiError(err); got != want {
		t.Errorf("error\n got %s\nwant %s", got, want)
	}
}

func create(t *testing.T, c *sm.Client, name, version, value string) string {
	t.Helper()
	out, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{
		Name: aws.String(name), ClientRequestToken: aws.String(ver(version)), SecretString: aws.String(value),
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.ARN
}

func put(ctx context.Context, c *sm.Client, id, version, value string, stages ...string) error {
	_, err := c.PutSecretValue(ctx, &sm.PutSecretValueInput{
		SecretId: aws.String(id), ClientRequestToken: aws.String(ver(version)),
		SecretString: aws.String(value), VersionStages: stages,
	})
	return err
}

// move is UpdateSecretVersionStage; from and to may be empty.
func move(ctx context.Context, c *sm.Client, id, label, from, to string) error {
	in := &sm.UpdateSecretVersionStageInput{SecretId: aws.String(id), VersionStage: aws.String(label)}
	if from != "" {
		in.RemoveFromVersionId = aws.String(ver(from))
	}
	if to != "" {
		in.MoveToVersionId = aws.String(ver(to))
	}
	_, err := c.UpdateSecretVersionStage(ctx, in)
	return err
}

// tags makes tags of keys and values in turn.
func tags(kv ...string) []types.Tag {
	var out []types.Tag
	for i := 0; i < len(kv); i += 2 {
		out = append(out, types.Tag{Key: aws.String(kv[i]), Value: aws.String(kv[i+1])})
	}
	return out
}

// filters makes one filter.
func filters(key string, values ...string) []types.Filter {
	return []types.Filter{{Key: types.FilterNameStringType(key), Values: values}}
}

// regions makes the Regions to replicate to.
func regions(names ...string) []types.ReplicaRegionType {
	var out []types.ReplicaRegionType
	for _, name := range names {
		out = append(out, types.ReplicaRegionType{Region: aws.String(name)})
	}
	return out
}

// rewrite is a client that sends another Amz-Sdk-Request.
type rewrite struct {
	inner  sm.HTTPClient
	header string
}

func (c rewrite) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Amz-Sdk-Request", c.header)
	return c.inner.Do(r)
}
