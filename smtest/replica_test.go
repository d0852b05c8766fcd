package smtest_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

const onReplica = "InvalidParameterException: Operation not permitted on a replica secret. Call must be made in primary secret's region."

// replicas shows a ReplicationStatus: "eu-west-1 InSync, ap-south-1 Failed".
func replicas(all []types.ReplicationStatusType) string {
	var out []string
	for _, r := range all {
		out = append(out, *r.Region+" "+string(r.Status))
	}
	return strings.Join(out, ", ")
}

func describe(t *testing.T, c *sm.Client, id string) *sm.DescribeSecretOutput {
	t.Helper()
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(id)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, east := newServer(t)
		west, south := srv.Client(inRegion("eu-west-1")), srv.Client(inRegion("ap-south-1"))
		out, err := east.CreateSecret(t.Context(), &sm.CreateSecretInput{
			Name: aws.String("s"), SecretString: aws.String("one"), ClientRequestToken: aws.String(ver("a")),
			Description: aws.String("d"), Tags: tags("k", "v"), AddReplicaRegions: regions("eu-west-1"),
		})
		if err != nil || replicas(out.ReplicationStatus) != "eu-west-1 InProgress" {
			t.Fatalf("CreateSecret = %+v, %v", out, err)
		}
		arn := *out.ARN
		there := strings.Replace(arn, "us-east-1", "eu-west-1", 1)

		// The replica is the same secret, but for the Region in its ARN.
		wantValue(t, west, "s", "one")
		wantValue(t, west, there, "one")
		_, err = read(t.Context(), west, arn)
		wantError(t, err, missing)
		d := describe(t, west, "s")
		if *d.ARN != there || *d.PrimaryRegion != "us-east-1" || *d.Description != "d" || describeTags(t, west, "s") != "k=v" ||
			d.ReplicationStatus != nil || len(d.VersionIdsToStages) != 1 {
			t.Errorf("DescribeSecret of the replica = %+v", d)
		}
		d = describe(t, east, "s")
		if r := d.ReplicationStatus; *d.PrimaryRegion != "us-east-1" || replicas(r) != "eu-west-1 InSync" || *r[0].StatusMessage != "Replication succeeded" ||
			*r[0].KmsKeyId != "alias/aws/secretsmanager" || !r[0].LastAccessedDate.Equal(time.Now().Truncate(24*time.Hour)) {
			t.Errorf("DescribeSecret of the primary = %+v", d)
		}
		if d.LastAccessedDate != nil {
			t.Errorf("the primary was accessed on %v", d.LastAccessedDate)
		}

		// A replica's key is its own affair.
		changed := d.LastChangedDate
		time.Sleep(time.Second)
		if _, err := west.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("s"), KmsKeyId: aws.String("alias/west")}); err != nil {
			t.Fatal(err)
		}
		if d := describe(t, east, "s"); !d.LastChangedDate.Equal(*changed) || d.KmsKeyId != nil {
			t.Errorf("the primary was changed at %v, want %v", d.LastChangedDate, changed)
		}

		// What changes in the primary changes in the replica.
		if err := put(t.Context(), east, "s", "b", "two"); err != nil {
			t.Fatal(err)
		}
		wantValue(t, west, "s", "two")
		in := &sm.ReplicateSecretToRegionsInput{SecretId: aws.String("s"), AddReplicaRegions: []types.ReplicaRegionType{
			{Region: aws.String("eu-west-1")}, {Region: aws.String("ap-south-1"), KmsKeyId: aws.String("alias/south")},
		}}
		more, err := east.ReplicateSecretToRegions(t.Context(), in)
		if err != nil || *more.ARN != arn || replicas(more.ReplicationStatus) != "eu-west-1 InSync, ap-south-1 InProgress" {
			t.Errorf("ReplicateSecretToRegions = %+v, %v", more, err)
		}
		if d := describe(t, south, "s"); *d.KmsKeyId != "alias/south" {
			t.Errorf("DescribeSecret of the second replica = %+v", d)
		}
		list, err := south.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String("s")})
		if err != nil || len(list.Versions) != 2 || list.Versions[0].KmsKeyIds[0] != "alias/south" {
			t.Errorf("ListSecretVersionIds of the second replica = %+v, %v", list, err)
		}

		// A primary with replicas cannot be deleted.
		for _, force := range []bool{false, true} {
			_, err := east.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("s"), ForceDeleteWithoutRecovery: aws.Bool(force)})
			wantError(t, err, "InvalidParameterException: You can't delete secret "+arn+" that still has replica regions [eu-west-1, ap-south-1]")
		}

		// One replica is removed, also twice; the other becomes a secret of its own.
		remove := &sm.RemoveRegionsFromReplicationInput{SecretId: aws.String("s"), RemoveReplicaRegions: []string{"ap-south-1"}}
		for range 2 {
			left, err := east.RemoveRegionsFromReplication(t.Context(), remove)
			if err != nil || *left.ARN != arn || replicas(left.ReplicationStatus) != "eu-west-1 InSync" {
				t.Errorf("RemoveRegionsFromReplication = %+v, %v", left, err)
			}
		}
		_, err = read(t.Context(), south, "s")
		wantError(t, err, missing)
		stopped, err := west.StopReplicationToReplica(t.Context(), &sm.StopReplicationToReplicaInput{SecretId: aws.String("s")})
		if err != nil || *stopped.ARN != there {
			t.Errorf("StopReplicationToReplica = %+v, %v", stopped, err)
		}
		if err := put(t.Context(), west, "s", "c", "three"); err != nil {
			t.Fatal(err)
		}
		if _, err := west.TagResource(t.Context(), &sm.TagResourceInput{SecretId: aws.String("s"), Tags: tags("k", "other")}); err != nil {
			t.Fatal(err)
		}
		wantValue(t, west, "s", "three")
		wantValue(t, east, "s", "two")
		for want, c := range map[string]*sm.Client{"alias/west": west, "DefaultEncryptionKey": east} {
			out, err := c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String("s")})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range out.Versions {
				if v.KmsKeyIds[0] != want {
					t.Errorf("version %s has key %s, want %s", short(*v.VersionId), v.KmsKeyIds[0], want)
				}
			}
		}
		if got, want := versions(t, west, "s"), "a: b:AWSPREVIOUS c:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
		if got, want := versions(t, east, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
			t.Errorf("versions of the primary = %q, want %q", got, want)
		}
		if d := describe(t, east, "s"); d.ReplicationStatus != nil || d.PrimaryRegion != nil || describeTags(t, east, "s") != "k=v" {
			t.Errorf("DescribeSecret of what was the primary = %+v", d)
		}
		if d := describe(t, west, "s"); d.PrimaryRegion != nil {
			t.Errorf("DescribeSecret of what was the replica = %+v", d)
		}
		if _, err := east.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("s"), ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
			t.Error(err)
		}
		wantValue(t, west, "s", "three")
	})
}

// A replica is changed in its primary's Region, but for its key.
func TestReplicaRefuses(t *testing.T) {
	srv, east := newServer(t)
	west := srv.Client(inRegion("eu-west-1"))
	if _, err := east.CreateSecret(t.Context(), &sm.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("one"), AddReplicaRegions: regions("eu-west-1"),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, id := t.Context(), aws.String("s")
	for name, call := range map[string]func() error{
		"PutSecretValue": func() error { return put(ctx, west, "s", "b", "two") },
		"UpdateSecret": func() error {
			_, err := west.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: id, Description: aws.String("x"), KmsKeyId: aws.String("x")})
			return err
		},
		"UpdateSecretVersionStage": func() error { return move(ctx, west, "s", "x", "", "a") },
		"TagResource": func() error {
			_, err := west.TagResource(ctx, &sm.TagResourceInput{SecretId: id, Tags: tags("k", "v")})
			return err
		},
		"UntagResource": func() error {
			_, err := west.UntagResource(ctx, &sm.UntagResourceInput{SecretId: id, TagKeys: []string{"k"}})
			return err
		},
		"PutResourcePolicy": func() error {
			_, err := west.PutResourcePolicy(ctx, &sm.PutResourcePolicyInput{SecretId: id, ResourcePolicy: aws.String(to(stranger))})
			return err
		},
		"DeleteResourcePolicy": func() error {
			_, err := west.DeleteResourcePolicy(ctx, &sm.DeleteResourcePolicyInput{SecretId: id})
			return err
		},
		"DeleteSecret": func() error {
			_, err := west.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: id})
			return err
		},
		"RestoreSecret": func() error {
			_, err := west.RestoreSecret(ctx, &sm.RestoreSecretInput{SecretId: id})
			return err
		},
		"RotateSecret": func() error {
			_, err := west.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: id, RotationLambdaARN: aws.String(functionARN)})
			return err
		},
		"CancelRotateSecret": func() error {
			_, err := west.CancelRotateSecret(ctx, &sm.CancelRotateSecretInput{SecretId: id})
			return err
		},
		"ReplicateSecretToRegions": func() error {
			_, err := west.ReplicateSecretToRegions(ctx, &sm.ReplicateSecretToRegionsInput{SecretId: id, AddReplicaRegions: regions("ap-south-1")})
			return err
		},
		"RemoveRegionsFromReplication": func() error {
			_, err := west.RemoveRegionsFromReplication(ctx, &sm.RemoveRegionsFromReplicationInput{SecretId: id, RemoveReplicaRegions: []string{"us-east-1"}})
			return err
		},
	} {
		if got := apiError(call()); got != onReplica {
			t.Errorf("%s on a replica: %s", name, got)
		}
	}
	if _, err := west.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: id, KmsKeyId: aws.String("alias/west")}); err != nil {
		t.Errorf("UpdateSecret of a replica's key: %v", err)
	}
	d := describe(t, west, "s")
	if *d.KmsKeyId != "alias/west" {
		t.Errorf("KmsKeyId = %v", d.KmsKeyId)
	}
	if got, want := panics(func() { srv.Put(*d.ARN, "x") }), "smtest: put "+strconv.Quote(*d.ARN)+": "+onReplica; got != want {
		t.Errorf("Put on a replica panics with %v, want %s", got, want)
	}
	if d := describe(t, east, "s"); d.KmsKeyId != nil {
		t.Errorf("the primary's KmsKeyId = %v", *d.KmsKeyId)
	}
	wantValue(t, west, "s", "one")
	// The resource policy comes with the replica.
	setPolicy(t, east, "s", to(stranger))
	if out, err := west.GetResourcePolicy(ctx, &sm.GetResourcePolicyInput{SecretId: id}); err != nil || *out.ResourcePolicy != to(stranger) {
		t.Errorf("GetResourcePolicy of a replica = %+v, %v", out, err)
	}
}

// A secret that has the name in the other Region stays, unless force is used.
func TestReplicaNameTaken(t *testing.T) {
	srv, east := newServer(t)
	west := srv.Client(inRegion("eu-west-1"))
	create(t, west, "s", "a", "theirs")
	create(t, east, "s", "a", "ours")
	replicate := func(force bool) string {
		t.Helper()
		out, err := east.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{
			SecretId: aws.String("s"), AddReplicaRegions: regions("eu-west-1"), ForceOverwriteReplicaSecret: force,
		})
		if err != nil {
			t.Fatal(err)
		}
		return replicas(out.ReplicationStatus)
	}
	for range 2 {
		if got := replicate(false); got != "eu-west-1 InProgress" {
			t.Errorf("ReplicateSecretToRegions = %s", got)
		}
		r := describe(t, east, "s").ReplicationStatus
		if replicas(r) != "eu-west-1 Failed" || *r[0].StatusMessage != "Replication failed: Secret name s already exists in region eu-west-1." {
			t.Errorf("ReplicationStatus = %+v", r)
		}
		wantValue(t, west, "s", "theirs")
	}
	if got := replicate(true); got != "eu-west-1 InProgress" {
		t.Errorf("ReplicateSecretToRegions by force = %s", got)
	}
	if r := describe(t, east, "s").ReplicationStatus; replicas(r) != "eu-west-1 InSync" {
		t.Errorf("ReplicationStatus = %+v", r)
	}
	wantValue(t, west, "s", "ours")
	if got := list(t, west, &sm.ListSecretsInput{}); got != "s" {
		t.Errorf("list = %q", got)
	}
	// Another primary's replica does not give way.
	south := srv.Client(inRegion("ap-south-1"))
	if _, err := south.CreateSecret(t.Context(), &sm.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("x"), AddReplicaRegions: regions("eu-west-1"), ForceOverwriteReplicaSecret: true,
	}); err != nil {
		t.Fatal(err)
	}
	if r := describe(t, south, "s").ReplicationStatus; replicas(r) != "eu-west-1 Failed" {
		t.Errorf("ReplicationStatus = %+v", r)
	}
	wantValue(t, west, "s", "ours")
	// What failed keeps nobody from deleting.
	if _, err := south.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Error(err)
	}
}

func TestReplicationErrors(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "one")
	const invalid = "InvalidParameterException: Invalid replica region."
	for _, region := range []string{"us-east-1", "Mars", "", "cn-north-1"} {
		_, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{SecretId: aws.String("s"), AddReplicaRegions: regions("eu-west-1", region)})
		wantError(t, err, invalid)
		_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new"), AddReplicaRegions: regions(region)})
		wantError(t, err, invalid)
	}
	for _, region := range []string{"us-east-1", "Mars"} {
		_, err := c.RemoveRegionsFromReplication(t.Context(), &sm.RemoveRegionsFromReplicationInput{SecretId: aws.String("s"), RemoveReplicaRegions: []string{region}})
		wantError(t, err, invalid)
	}
	if d := describe(t, c, "s"); d.ReplicationStatus != nil {
		t.Errorf("calls that failed have replicated: %+v", d.ReplicationStatus)
	}
	_, err := c.StopReplicationToReplica(t.Context(), &sm.StopReplicationToReplicaInput{SecretId: aws.String("s")})
	wantError(t, err, "InvalidParameterException: Operation not permitted on a primary secret. Call must be made in the replica secret's region.")
	for operation, member := range map[string]string{"ReplicateSecretToRegions": "addReplicaRegions", "RemoveRegionsFromReplication": "removeReplicaRegions"} {
		srv, _ := newServer(t)
		want := fmt.Sprintf("Value at '%s' failed to satisfy constraint: Member must have length greater than or equal to 1", member)
		if w := raw(srv, operation, `{"SecretId":"s"}`); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s without Regions: %s", operation, w.Body)
		}
	}
}
