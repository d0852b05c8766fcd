package agent_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/source/agent"
)

var errRefused = errors.New("password authentication failed")

func isRefused(err error) bool { return errors.Is(err, errRefused) }

// A login in the midst of a rotation gets through on AWSPENDING, however fresh the
// agent thinks what it holds.
func TestLoginDuringRotation(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, s.client(), nil)
		r := retry.New(c, "prod/db", isRefused, nil)
		var tried []string
		accepts := "one"
		login := func(_ context.Context, secret *cache.Secret) error {
			if tried = append(tried, secret.Text()); secret.Text() != accepts {
				return errRefused
			}
			return nil
		}
		if err := r.Do(t.Context(), login); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: aws.String("prod/db"), SecretString: aws.String("two"), VersionStages: []string{"AWSPENDING"},
		}); err != nil {
			t.Fatal(err)
		}
		tried, accepts = nil, "two"
		if err := r.Do(t.Context(), login); err != nil || !slices.Equal(tried, []string{"one", "two"}) {
			t.Errorf("tried %q, error %v, want one, then two", tried, err)
		}
	})
}

// The Lambda extension does not say that there is no AWSPENDING. Who was refused
// waits for a rotation that may be under way.
func TestLoginOverTheExtension(t *testing.T) {
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("versionStage") != "" {
			plain(w, http.StatusBadRequest, "an unexpected error occurred while executing request")
			return
		}
		plain(w, http.StatusOK, `{"Name":"prod/db","VersionId":"v1","SecretString":"one"}`)
	})
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, agent.New(&agent.Options{Endpoint: url, Token: fixed("token")}), nil)
		r := retry.New(c, "prod/db", isRefused, &retry.Options{Patience: 20 * time.Second})
		began := time.Now()
		err := r.Do(t.Context(), func(context.Context, *cache.Secret) error { return errRefused })
		if waited := time.Since(began); !errors.Is(err, errRefused) || waited != 20*time.Second {
			t.Errorf("error %v after %v, want the refusal after 20 s", err, waited)
		}
	})
}
