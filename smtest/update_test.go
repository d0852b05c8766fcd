package smtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestUpdateSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newServer(t)
		arn := create(t, c, "s", "a", "one")
		update := func(in sm.UpdateSecretInput) (version string, err error) {
			t.Helper()
			time.Sleep(time.Second)
			in.SecretId = aws.String("s")
			out, err := c.UpdateSecret(t.Context(), &in)
			if err != nil {
				return "", err
			}
			if *out.ARN != arn || *out.Name != "s" {
				t.Errorf("UpdateSecret = %s, %s", *out.ARN, *out.Name)
			}
			return short(aws.ToString(out.VersionId)), nil
		}
		describe := func() *sm.DescribeSecretOutput {
			t.Helper()
			d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
			if err != nil {
				t.Fatal(err)
			}
			if !d.LastChangedDate.Equal(time.Now().Truncate(time.Millisecond)) {
				t.Errorf("LastChangedDate = %v, want now", d.LastChangedDate)
			}
			return d
		}
		// Without a value there is no version in the answer, and none is made.
		if v, err := update(sm.UpdateSecretInput{Description: aws.String("d")}); v != "" || err != nil {
			t.Errorf("version %q, %v, want none", v, err)
		}
		if d := describe(); *d.Description != "d" || d.Type != nil || d.KmsKeyId != nil {
			t.Errorf("description %v, type %v, key %v", d.Description, d.Type, d.KmsKeyId)
		}
		if v, err := update(sm.UpdateSecretInput{SecretString: aws.String("two"), ClientRequestToken: aws.String(ver("b"))}); v != "b" || err != nil {
			t.Errorf("version %q, %v, want b", v, err)
		}
		if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want || *describe().Description != "d" {
			t.Errorf("versions = %q, want %q", got, want)
		}
		// The same once more changes nothing but the date; another value is refused.
		if v, err := update(sm.UpdateSecretInput{SecretString: aws.String("two"), ClientRequestToken: aws.String(ver("b"))}); v != "b" || err != nil {
			t.Errorf("version %q, %v, want b", v, err)
		}
		_, err := update(sm.UpdateSecretInput{
			SecretString: aws.String("three"), Description: aws.String("not this"), KmsKeyId: aws.String("k"), ClientRequestToken: aws.String(ver("b")),
		})
		wantError(t, err, withARN("ResourceExistsException: You can't use ClientRequestToken "+ver("b")+
			" because that value is already in use for a version of secret {arn}.", arn))
		if d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")}); err != nil || *d.Description != "d" || d.KmsKeyId != nil {
			t.Errorf("an update that failed has changed the secret: %+v, %v", d, err)
		}
		if v, err := update(sm.UpdateSecretInput{SecretBinary: []byte{1}, Description: aws.String(""), Type: aws.String("Partner"), ClientRequestToken: aws.String(ver("c"))}); v != "c" || err != nil {
			t.Errorf("version %q, %v, want c", v, err)
		}
		if d := describe(); d.Description != nil || *d.Type != "Partner" {
			t.Errorf("description %v, type %v", d.Description, d.Type)
		}
		_, err = update(sm.UpdateSecretInput{SecretBinary: []byte{1}, SecretString: aws.String("x")})
		wantError(t, err, "InvalidParameterException: You can't specify both a binary secret value and a string secret value in the same secret.")
	})
}

// A new key takes over the versions with a label of the service's own; the others
// stay under the old one.
func TestUpdateSecretKey(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "a")
	for _, v := range []string{"b", "c"} {
		if err := put(t.Context(), c, "s", v, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), c, "s", "d", "d", "x"); err != nil {
		t.Fatal(err)
	}
	keys := func() map[string]string {
		t.Helper()
		out, err := c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String("s"), IncludeDeprecated: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, v := range out.Versions {
			all[short(*v.VersionId)] = v.KmsKeyIds[0]
		}
		return all
	}
	setKey := func(key string) {
		t.Helper()
		if _, err := c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("s"), KmsKeyId: aws.String(key)}); err != nil {
			t.Fatal(err)
		}
	}
	const def = "DefaultEncryptionKey"
	setKey("alias/app")
	wantKeys := func(want map[string]string) {
		t.Helper()
		got := keys()
		for v, key := range want {
			if got[v] != key {
				t.Errorf("version %s has key %s, want %s", v, got[v], key)
			}
		}
	}
	wantKeys(map[string]string{"a": def, "b": "alias/app", "c": "alias/app", "d": def})
	if err := put(t.Context(), c, "s", "e", "e"); err != nil {
		t.Fatal(err)
	}
	wantKeys(map[string]string{"b": "alias/app", "e": "alias/app"})
	for _, service := range []string{"", "alias/aws/secretsmanager", "arn:aws:kms:us-east-1:123456789012:alias/aws/secretsmanager"} {
		setKey("alias/app")
		setKey(service)
		d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil || d.KmsKeyId != nil {
			t.Errorf("KmsKeyId after %q = %v, %v, want none", service, d.KmsKeyId, err)
		}
	}
	wantKeys(map[string]string{"b": "alias/app", "c": def, "e": def})
}

func TestKeys(t *testing.T) {
	srv, c := newServer(t)
	const alias = "arn:aws:kms:us-east-1:" + owner + ":alias/app"
	for _, id := range []string{keyARN, keyARN[len(keyARN)-36:], "alias/app", alias} {
		srv.AddKey(smtest.Key{ARN: keyARN, Alias: "alias/app"})
		name := "s" + id[len(id)-4:] + id[:3]
		createWithKey(t, c, name, id)
		wantValue(t, c, name, "one")
		if d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(name)}); err != nil || *d.KmsKeyId != id {
			t.Errorf("KmsKeyId = %v, %v, want %s", d, err, id)
		}

		const noDecryption = "DecryptionFailure: Secrets Manager can't decrypt the protected secret text using the provided KMS key."
		const noEncryption = "EncryptionFailure: Secrets Manager can't encrypt the protected secret text using the provided KMS key. " +
			"Check that the KMS key is available, enabled, and not in an invalid state."
		srv.AddKey(smtest.Key{ARN: keyARN, Alias: "alias/app", Disabled: true})
		_, err := read(t.Context(), c, name)
		wantError(t, err, noDecryption)
		wantError(t, put(t.Context(), c, name, "b", "two"), noEncryption)
		_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new"), SecretString: aws.String("x"), KmsKeyId: aws.String(id)})
		wantError(t, err, noEncryption)
		_, err = read(t.Context(), c, "new")
		wantError(t, err, missing)
		_, err = c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String(name), SecretString: aws.String("x")})
		wantError(t, err, noEncryption)
		out, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{name}})
		if err != nil || len(out.Errors) != 1 || *out.Errors[0].ErrorCode != "DecryptionFailure" {
			t.Errorf("batch = %+v, %v", out, err)
		}
		if got := versions(t, c, name); len(got) == 0 || got[len(got)-1] == ' ' {
			t.Errorf("versions = %q", got)
		}

		srv.AddKey(smtest.Key{ARN: keyARN, Alias: "alias/app"})
		wantValue(t, c, name, "one")
	}
	for want, k := range map[string]smtest.Key{
		`smtest: add key: "alias/app" is not the ARN of a key`: {ARN: "alias/app"},
		`smtest: add key: "app" is not an alias`:               {ARN: keyARN, Alias: "app"},
	} {
		if got := panics(func() { srv.AddKey(k) }); got != want {
			t.Errorf("AddKey panics with %v, want %s", got, want)
		}
	}
}
