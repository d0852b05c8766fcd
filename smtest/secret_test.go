package smtest_test

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/middleware"

	"github.com/keyturn/keyturn/smtest"
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

// A deleted secret gives nothing away and comes back whole.
func TestRestoreSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.AddFunction(functionARN, func(context.Context, []byte) error { return nil })
		out, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{
			Name: aws.String("s"), SecretString: aws.String("one"), ClientRequestToken: aws.String(ver("a")),
			Description: aws.String("d"), Tags: tags("k", "v"), KmsKeyId: aws.String("alias/app"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := put(t.Context(), c, "s", "b", "two"); err != nil {
			t.Fatal(err)
		}
		setPolicy(t, c, "s", to(stranger))
		before := describe(t, c, "s")
		for _, id := range []string{"s", *out.ARN} {
			if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String(id)}); err != nil {
				t.Fatal(err)
			}
			d := describe(t, c, "s")
			if want := time.Now().Add(30 * 24 * time.Hour); !d.DeletedDate.Equal(want) {
				t.Errorf("DeletedDate = %v, want %v", d.DeletedDate, want)
			}
			time.Sleep(30*24*time.Hour - time.Second)
			restored, err := c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String(id)})
			if err != nil || *restored.ARN != *out.ARN || *restored.Name != "s" {
				t.Fatalf("RestoreSecret = %+v, %v", restored, err)
			}
			time.Sleep(time.Hour)
		}
		after := describe(t, c, "s")
		before.ResultMetadata, after.ResultMetadata = middleware.Metadata{}, middleware.Metadata{}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("restored\n got %+v\nwant %+v", after, before)
		}
		if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
		wantValue(t, c, "s", "two")
		policy, err := c.GetResourcePolicy(t.Context(), &sm.GetResourcePolicyInput{SecretId: aws.String("s")})
		if err != nil || *policy.ResourcePolicy != to(stranger) {
			t.Errorf("GetResourcePolicy = %+v, %v", policy, err)
		}
		// Restoring a secret that was not deleted is no error.
		if _, err := c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Error(err)
		}
	})
}

// What a secret marked for deletion refuses. DescribeSecret, ListSecretVersionIds,
// RestoreSecret and a forced delete it does not.
func TestDeletedSecretRefuses(t *testing.T) {
	srv, c := newServer(t)
	srv.AddFunction(functionARN, func(context.Context, []byte) error { return nil })
	create(t, c, "s", "a", "one")
	ctx, id := t.Context(), aws.String("s")
	if _, err := c.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: id}); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"GetSecretValue":           func() error { _, err := read(ctx, c, "s"); return err },
		"PutSecretValue":           func() error { return put(ctx, c, "s", "b", "two") },
		"UpdateSecretVersionStage": func() error { return move(ctx, c, "s", "x", "", "a") },
		"UpdateSecret": func() error {
			_, err := c.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: id, Description: aws.String("x")})
			return err
		},
		"UpdateSecret, key alone": func() error {
			_, err := c.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: id, KmsKeyId: aws.String("x")})
			return err
		},
		"TagResource": func() error {
			_, err := c.TagResource(ctx, &sm.TagResourceInput{SecretId: id, Tags: tags("k", "v")})
			return err
		},
		"UntagResource": func() error {
			_, err := c.UntagResource(ctx, &sm.UntagResourceInput{SecretId: id, TagKeys: []string{"k"}})
			return err
		},
		"GetResourcePolicy": func() error {
			_, err := c.GetResourcePolicy(ctx, &sm.GetResourcePolicyInput{SecretId: id})
			return err
		},
		"PutResourcePolicy": func() error {
			_, err := c.PutResourcePolicy(ctx, &sm.PutResourcePolicyInput{SecretId: id, ResourcePolicy: aws.String(to(stranger))})
			return err
		},
		"DeleteResourcePolicy": func() error {
			_, err := c.DeleteResourcePolicy(ctx, &sm.DeleteResourcePolicyInput{SecretId: id})
			return err
		},
		"ValidateResourcePolicy": func() error {
			_, err := c.ValidateResourcePolicy(ctx, &sm.ValidateResourcePolicyInput{SecretId: id, ResourcePolicy: aws.String(to(stranger))})
			return err
		},
		"RotateSecret": func() error {
			_, err := c.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: id, RotationLambdaARN: aws.String(functionARN)})
			return err
		},
		"CancelRotateSecret": func() error {
			_, err := c.CancelRotateSecret(ctx, &sm.CancelRotateSecretInput{SecretId: id})
			return err
		},
		"ReplicateSecretToRegions": func() error {
			_, err := c.ReplicateSecretToRegions(ctx, &sm.ReplicateSecretToRegionsInput{SecretId: id, AddReplicaRegions: regions("eu-west-1")})
			return err
		},
		"RemoveRegionsFromReplication": func() error {
			_, err := c.RemoveRegionsFromReplication(ctx, &sm.RemoveRegionsFromReplicationInput{SecretId: id, RemoveReplicaRegions: []string{"eu-west-1"}})
			return err
		},
		"StopReplicationToReplica": func() error {
			_, err := c.StopReplicationToReplica(ctx, &sm.StopReplicationToReplicaInput{SecretId: id})
			return err
		},
	} {
		want := "InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion."
		if got := apiError(call()); got != want {
			t.Errorf("%s on a deleted secret: %s", name, got)
		}
	}
	batch, err := c.BatchGetSecretValue(ctx, &sm.BatchGetSecretValueInput{SecretIdList: []string{"s"}})
	if err != nil || len(batch.Errors) != 1 || *batch.Errors[0].ErrorCode != "InvalidRequestException" {
		t.Errorf("batch = %+v, %v", batch, err)
	}
	if got := versions(t, c, "s"); got != "a:AWSCURRENT" {
		t.Errorf("versions = %q", got)
	}
	if _, err := c.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: id, ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
		t.Error(err)
	}
}

// A forced delete of what does not exist answers as if it had.
func TestForcedDeleteOfNothing(t *testing.T) {
	_, c := newServer(t)
	for id, want := range map[string]string{
		"none": "^arn:aws:secretsmanager:us-east-1:123456789012:secret:none-[A-Za-z0-9]{6}$",
		"arn:aws:secretsmanager:us-east-1:123456789012:secret:none-a1b2c3": "^arn:aws:secretsmanager:us-east-1:123456789012:secret:none-a1b2c3$",
	} {
		out, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String(id), ForceDeleteWithoutRecovery: aws.Bool(true)})
		if err != nil || *out.Name != "none" || !regexp.MustCompile(want).MatchString(*out.ARN) || out.DeletionDate == nil {
			t.Errorf("DeleteSecret(%s) = %+v, %v", id, out, err)
		}
	}
	_, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("no name"), ForceDeleteWithoutRecovery: aws.Bool(true)})
	if got := apiError(err); !strings.HasPrefix(got, "ValidationException: Invalid name.") {
		t.Errorf("DeleteSecret of a bad name: %s", got)
	}
}

func TestNameLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(&smtest.Options{NameLinger: 5 * time.Second})
		defer srv.Close()
		c := client(srv)
		create(t, c, "s", "a", "one")
		if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("s"), ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
			t.Fatal(err)
		}
		again := func() error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s")})
			return err
		}
		time.Sleep(5*time.Second - time.Millisecond)
		wantError(t, again(), "InvalidRequestException: You can't create this secret because a secret with this name is already scheduled for deletion.")
		_, err := read(t.Context(), c, "s")
		wantError(t, err, missing)
		time.Sleep(time.Millisecond)
		if err := again(); err != nil {
			t.Error(err)
		}
	})
}

// A secret that a service manages is that service's to change.
func TestManagedSecret(t *testing.T) {
	srv, c := newServer(t)
	id := srv.Put("rds!db-1234", "one")
	ctx, name := t.Context(), aws.String("rds!db-1234")
	d := describe(t, c, *name)
	if *d.OwningService != "rds" || describeTags(t, c, *name) != "aws:secretsmanager:owningService=rds" {
		t.Errorf("DescribeSecret = %+v", d)
	}
	wantValue(t, c, *name, "one")
	const managed = "InvalidRequestException: The secret is managed by another service, and you must use that service to update it."
	for operation, call := range map[string]func() error{
		"PutSecretValue":           func() error { return put(ctx, c, *name, "b", "two") },
		"UpdateSecretVersionStage": func() error { return move(ctx, c, *name, "x", "", "a") },
		"UpdateSecret": func() error {
			_, err := c.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: name, Description: aws.String("x")})
			return err
		},
		"DeleteSecret": func() error {
			_, err := c.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: name})
			return err
		},
		"forced DeleteSecret": func() error {
			_, err := c.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: name, ForceDeleteWithoutRecovery: aws.Bool(true)})
			return err
		},
	} {
		if got := apiError(call()); got != managed {
			t.Errorf("%s: %s", operation, got)
		}
	}
	if _, err := c.TagResource(ctx, &sm.TagResourceInput{SecretId: name, Tags: tags("k", "v")}); err != nil {
		t.Error(err)
	}
	// The service itself, which Put and Rotate are.
	if next := srv.Put(*name, "two"); next == id {
		t.Error("Put made no version")
	}
	wantValue(t, c, *name, "two")
	if _, err := srv.Rotate(ctx, *name, "three"); err != nil {
		t.Error(err)
	}
	wantValue(t, c, *name, "three")
	// Not every name with ! in it is a service's.
	for _, own := range []string{"Odd!x", "a/b!x", "!x", "x!"} {
		srv.Put(own, "x")
		if d := describe(t, c, own); d.OwningService != nil {
			t.Errorf("%s is owned by %s", own, *d.OwningService)
		}
	}
}

func TestVersionQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(&smtest.Options{VersionQuota: 100})
		defer srv.Close()
		c := client(srv)
		create(t, c, "s", "v0", "x")
		for i := 1; i < 100; i++ {
			if err := put(t.Context(), c, "s", fmt.Sprint("v", i), "x"); err != nil {
				t.Fatal(err)
			}
		}
		const full = "LimitExceededException: The request failed because it would exceed one of the Secrets Manager quotas."
		before := versions(t, c, "s")
		wantError(t, put(t.Context(), c, "s", "v100", "x"), full)
		_, err := c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("s"), SecretString: aws.String("x"), Description: aws.String("x")})
		wantError(t, err, full)
		if got := versions(t, c, "s"); got != before || describe(t, c, "s").Description != nil {
			t.Errorf("a call that failed has changed the secret: %s", got)
		}
		if err := put(t.Context(), c, "s", "v99", "x"); err != nil {
			t.Errorf("the same put again: %v", err)
		}
		// After a day the oldest go to make room.
		time.Sleep(24 * time.Hour)
		for i := 100; i < 300; i++ {
			if err := put(t.Context(), c, "s", fmt.Sprint("v", i), "x"); err != nil {
				// v98 and v99 had labels when their day was over, and have lost them since.
				if i < 199 {
					t.Errorf("put %d: %v", i, err)
				}
				wantError(t, err, full)
				break
			}
		}
		if n := len(strings.Fields(versions(t, c, "s"))); n != 100 {
			t.Errorf("%d versions, want 100", n)
		}
	})
	srv, c := newServer(t)
	for range 150 {
		srv.Put("s", "x")
	}
	if err := put(t.Context(), c, "s", "v", "x"); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}
