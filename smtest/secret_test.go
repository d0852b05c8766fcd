package smtest_test

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func TestCreateSecretAgain(t *testing.T) {
	_, c := newServer(t)
	again := func(version, value string) error {
		_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{
			Name: aws.String("s"), ClientRequestToken: aws.String(ver(version)), SecretString: aws.String(value),
		})
		return err
	}
	arn := create(t, c, "s", "a", "one")
	if got := create(t, c, "s", "a", "one"); got != arn {
		t.Errorf("the same CreateSecret again made %s, want %s", got, arn)
	}
	const exists = "ResourceExistsException: The operation failed because the secret s already exists."
	wantError(t, again("b", "one"), exists)
	wantError(t, again("a", "two"), "ResourceExistsException: You can't use ClientRequestToken "+ver("a")+
		" because that value is already in use for a version of secret "+arn+".")
	wantValue(t, c, "s", "one")
}

func TestDeleteSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		arn := create(t, c, "s", "a", "one")
		del := func(in *sm.DeleteSecretInput) error {
			in.SecretId = aws.String("s")
			_, err := c.DeleteSecret(t.Context(), in)
			return err
		}
		if err := del(&sm.DeleteSecretInput{RecoveryWindowInDays: aws.Int64(7)}); err != nil {
			t.Fatal(err)
		}
		const marked = "InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion."
		_, err := read(t.Context(), c, "s")
		wantError(t, err, marked)
		wantError(t, put(t.Context(), c, "s", "b", "two"), marked)
		wantError(t, del(&sm.DeleteSecretInput{}),
			"InvalidRequestException: You tried to perform the operation on a secret that's currently marked deleted.")
		_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s"), SecretString: aws.String("x")})
		wantError(t, err, "InvalidRequestException: You can't create this secret because a secret with this name is already scheduled for deletion.")
		d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil || d.DeletedDate == nil || len(d.VersionIdsToStages) != 1 {
			t.Errorf("DescribeSecret of a deleted secret = %+v, %v", d, err)
		}

		time.Sleep(7*24*time.Hour + time.Millisecond)
		const missing = "ResourceNotFoundException: Secrets Manager can't find the specified secret."
		_, err = read(t.Context(), c, "s")
		wantError(t, err, missing)

		// The name is free; the new secret has another ARN, and the old one is dead.
		srv.Put("s", "two")
		wantValue(t, c, "s", "two")
		_, err = read(t.Context(), c, arn)
		wantError(t, err, missing)

		if err := del(&sm.DeleteSecretInput{ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
			t.Error(err)
		}
		_, err = read(t.Context(), c, "s")
		wantError(t, err, missing)
		if err := del(&sm.DeleteSecretInput{ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
			t.Errorf("forced delete of a secret that is gone: %v", err)
		}
		wantError(t, del(&sm.DeleteSecretInput{}), missing)
	})
}

func TestSecretIDs(t *testing.T) {
	const base = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
	_, c := newServer(t)
	arns := make(map[string]string)
	for _, name := range []string{"prod/db", "with-a1b2c3", "with-a1b2", "with-a1b2c3-", "Odd/_+=.@!-name"} {
		arns[name] = create(t, c, name, "a", name)
		if !regexp.MustCompile(`^` + regexp.QuoteMeta(base+name) + `-[A-Za-z0-9]{6}$`).MatchString(arns[name]) {
			t.Errorf("ARN = %q", arns[name])
		}
		wantValue(t, c, name, name)
		wantValue(t, c, arns[name], name)
	}
	for _, name := range []string{"prod/db", "with-a1b2", "with-a1b2c3-", "Odd/_+=.@!-name"} {
		wantValue(t, c, base+name, name)
	}
	full := arns["prod/db"]
	for _, id := range []string{
		base + "with-a1b2c3", // A partial ARN that is taken for a full one.
		full[:len(full)-1] + "!",
		full[:len(full)-1],
		"prod/db" + full[len(full)-7:], // The suffix belongs to ARNs.
		"arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db",
		"arn:aws:secretsmanager:us-east-1:999999999999:secret:prod/db",
	} {
		_, err := read(t.Context(), c, id)
		wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret.")
	}
}
