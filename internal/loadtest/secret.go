package loadtest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// SecretID is the name of the secret that a [Matrix] rotates.
const SecretID = "prod/db"

// NewSecret returns a server that holds the secret, and a cache over it.
func NewSecret(t *testing.T, value string, opts *cache.Options) (*smtest.Server, *cache.Cache) {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put(SecretID, value)
	c, err := cache.New(srv.Client(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return srv, c
}

// Pend stores a value of the secret as AWSPENDING, as createSecret does, and returns
// its version.
func Pend(t *testing.T, srv *smtest.Server, value string) (version string) {
	t.Helper()
	out, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(SecretID), SecretString: aws.String(value), VersionStages: []string{cache.Pending},
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.VersionId
}

// Promote moves AWSCURRENT to the version, as finishSecret does.
func Promote(t *testing.T, srv *smtest.Server, version string) {
	t.Helper()
	current, err := srv.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(SecretID)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String(SecretID), VersionStage: aws.String(cache.Current),
		RemoveFromVersionId: current.VersionId, MoveToVersionId: aws.String(version),
	}); err != nil {
		t.Fatal(err)
	}
}

// DenyPending has the service refuse to read AWSPENDING, as a policy does that forgets
// about it.
func DenyPending(srv *smtest.Server) {
	srv.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Err: smtest.AccessDenied})
}
