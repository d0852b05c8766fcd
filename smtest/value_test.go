package smtest_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

func withARN(text, arn string) string {
	return strings.ReplaceAll(text, "{arn}", arn)
}

func TestGetSecretValueErrors(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "one")
	if err := put(t.Context(), c, "s", "b", "two"); err != nil {
		t.Fatal(err)
	}
	const badName = "ValidationException: Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
	for _, tt := range []struct {
		id, version, stage string
		want               string
	}{
		{"none", "", "", "ResourceNotFoundException: Secrets Manager can't find the specified secret."},
		{"no name", "", "", badName},
		{"arn:aws:secretsmanager", "", "", badName},
		{"s", "", pend, "ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: AWSPENDING"},
		{"s", ver("c"), "", "ResourceNotFoundException: Secrets Manager can't find the specified secret value for VersionId: " + ver("c")},
		{"s", ver("a"), cur, "InvalidRequestException: You provided a VersionStage that is not associated to the provided VersionId."},
	} {
		in := &sm.GetSecretValueInput{SecretId: aws.String(tt.id)}
		if tt.version != "" {
			in.VersionId = aws.String(tt.version)
		}
		if tt.stage != "" {
			in.VersionStage = aws.String(tt.stage)
		}
		_, err := c.GetSecretValue(t.Context(), in)
		wantError(t, err, tt.want)
	}
}

func TestReadByVersion(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "one")
	for _, v := range []string{"b", "c"} {
		if err := put(t.Context(), c, "s", v, v); err != nil {
			t.Fatal(err)
		}
	}
	get := func(version, stage string) *sm.GetSecretValueOutput {
		t.Helper()
		in := &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionId: aws.String(ver(version))}
		if stage != "" {
			in.VersionStage = aws.String(stage)
		}
		out, err := c.GetSecretValue(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// a has lost all its labels and can still be read.
	if out := get("a", ""); *out.SecretString != "one" || out.VersionStages != nil || *out.VersionId != ver("a") {
		t.Errorf("version a = %q %v, want \"one\" without stages", *out.SecretString, out.VersionStages)
	}
	if out := get("b", prev); *out.SecretString != "b" || !slices.Equal(out.VersionStages, []string{prev}) {
		t.Errorf("version b = %q %v", *out.SecretString, out.VersionStages)
	}
	out, err := c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String("s")})
	if err != nil || len(out.Versions) != 2 {
		t.Errorf("ListSecretVersionIds = %d versions, %v, want the 2 with labels", len(out.Versions), err)
	}
}

func TestBinaryValue(t *testing.T) {
	_, c := newServer(t)
	value := []byte{0, 0xff, 1}
	if _, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s"), SecretBinary: value}); err != nil {
		t.Fatal(err)
	}
	out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || !bytes.Equal(out.SecretBinary, value) || out.SecretString != nil {
		t.Errorf("binary value = %v %v, %v", out.SecretBinary, out.SecretString, err)
	}
	// The same token: the same bytes are no new version, others are an error.
	again := func(in *sm.PutSecretValueInput) error {
		in.SecretId, in.ClientRequestToken = aws.String("s"), out.VersionId
		_, err := c.PutSecretValue(t.Context(), in)
		return err
	}
	if err := again(&sm.PutSecretValueInput{SecretBinary: value}); err != nil {
		t.Error(err)
	}
	for _, in := range []*sm.PutSecretValueInput{
		{SecretBinary: []byte{0, 0xff, 2}}, {SecretString: aws.String(string([]byte{0, 1}))},
	} {
		if err := again(in); err == nil {
			t.Error("put of another value with the same token: no error")
		}
	}
	_, err = c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{
		SecretId: aws.String("s"), SecretBinary: value, SecretString: aws.String("x"),
	})
	wantError(t, err, "InvalidParameterException: You can't specify both a binary secret value and a string secret value in the same secret.")
}

func TestValueSize(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "one")
	full := strings.Repeat("é", 32768) // 65,536 bytes, half as many characters.
	if err := put(t.Context(), c, "s", "b", full); err != nil {
		t.Errorf("put of 65,536 bytes: %v", err)
	}
	wantValue(t, c, "s", full)
	wantError(t, put(t.Context(), c, "s", "c", full+"x"), "ValidationException: 1 validation error detected: "+
		"Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to 65536")
	_, err := c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{
		SecretId: aws.String("s"), SecretBinary: make([]byte, 65537),
	})
	wantError(t, err, "ValidationException: 1 validation error detected: "+
		"Value at 'secretBinary' failed to satisfy constraint: Member must have length less than or equal to 65536")
	const empty = "InvalidRequestException: You must provide either SecretString or SecretBinary."
	wantError(t, put(t.Context(), c, "s", "c", ""), empty)
	_, err = c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("s")})
	wantError(t, err, empty)
	if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newServer(t)
		time.Sleep(1234 * time.Millisecond)
		created := time.Now().UTC()
		create(t, c, "s", "a", "one")
		time.Sleep(7 * time.Millisecond)
		changed := time.Now().UTC()
		if err := put(t.Context(), c, "s", "b", "two"); err != nil {
			t.Fatal(err)
		}
		d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil {
			t.Fatal(err)
		}
		if !d.CreatedDate.Equal(created) || !d.LastChangedDate.Equal(changed) || d.LastAccessedDate != nil {
			t.Errorf("created %v, changed %v, accessed %v, want %v, %v and never",
				d.CreatedDate, d.LastChangedDate, d.LastAccessedDate, created, changed)
		}
		if d.RotationEnabled != nil || d.RotationRules != nil || d.LastRotatedDate != nil || d.DeletedDate != nil ||
			d.Description != nil || d.Tags != nil {
			t.Errorf("DescribeSecret shows what was never set: %+v", d)
		}
		time.Sleep(25 * time.Hour)
		wantValue(t, c, "s", "two")
		d, err = c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		day := time.Now().UTC().Truncate(24 * time.Hour)
		if err != nil || d.LastAccessedDate == nil || !d.LastAccessedDate.Equal(day) {
			t.Errorf("accessed %v, %v, want the day %v", d.LastAccessedDate, err, day)
		}
	})
}

func TestVersionsArePruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		count := func() int {
			out, err := c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{
				SecretId: aws.String("s"), IncludeDeprecated: aws.Bool(true), MaxResults: aws.Int32(7),
			})
			if err != nil {
				t.Fatal(err)
			}
			n := len(out.Versions)
			for out.NextToken != nil && n < 1000 {
				out, err = c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{
					SecretId: aws.String("s"), IncludeDeprecated: aws.Bool(true), MaxResults: aws.Int32(7), NextToken: out.NextToken,
				})
				if err != nil {
					t.Fatal(err)
				}
				n += len(out.Versions)
			}
			return n
		}
		first := srv.Put("s", "0")
		for i := range 119 {
			time.Sleep(time.Second)
			srv.Put("s", fmt.Sprint(i+1))
		}
		if got := count(); got != 120 {
			t.Errorf("%d versions, want all 120: none is a day old", got)
		}
		time.Sleep(24*time.Hour - 120*time.Second)
		srv.Put("s", "almost a day later")
		if got := count(); got != 121 {
			t.Errorf("%d versions, want all 121: none is a day old", got)
		}
		if _, err := c.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
			SecretId: aws.String("s"), VersionStage: aws.String("keep"), MoveToVersionId: aws.String(first),
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		srv.Put("s", "last")
		if got := count(); got != 100 {
			t.Errorf("%d versions a day later, want 100", got)
		}
		if _, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{
			SecretId: aws.String("s"), VersionId: aws.String(first),
		}); err != nil {
			t.Errorf("the oldest version has a label and is gone: %v", err)
		}
	})
}

func TestBatchGetSecretValue(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("one", "1")
	srv.Put("two", "2")
	out, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"two", "none", "one"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range out.SecretValues {
		got = append(got, *v.Name+"="+*v.SecretString)
	}
	if !slices.Equal(got, []string{"two=2", "one=1"}) {
		t.Errorf("values = %v", got)
	}
	want := types.APIErrorType{
		SecretId: aws.String("none"), ErrorCode: aws.String("ResourceNotFoundException"),
		Message: aws.String("Secrets Manager can't find the specified secret."),
	}
	if len(out.Errors) != 1 || *out.Errors[0].SecretId != *want.SecretId ||
		*out.Errors[0].ErrorCode != *want.ErrorCode || *out.Errors[0].Message != *want.Message {
		t.Errorf("errors = %+v", out.Errors)
	}
	_, err = c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: make([]string, 21)})
	if err == nil {
		t.Error("a batch of 21: no error")
	}
}

func TestPutPanics(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("gone", "secret-value")
	if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("gone")}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, value, want string }{
		{"no name", "secret-value", `smtest: put "no name": ValidationException: Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!`},
		{"", "secret-value", `smtest: put "": ValidationException: 1 validation error detected: Value at 'secretId' failed to satisfy constraint: Member must not be null`},
		{"s", "", `smtest: put "s": InvalidRequestException: You must provide either SecretString or SecretBinary.`},
		{"s", "secret-value\xff", `smtest: put "s": ValidationException: 1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must be valid UTF-8`},
		{"s", strings.Repeat("secret-value", 6000), `smtest: put "s": ValidationException: 1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to 65536`},
		{"gone", "secret-value", `smtest: put "gone": InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion.`},
	} {
		if got := panics(func() { srv.Put(tt.name, tt.value) }); got != tt.want {
			t.Errorf("Put panics with\n     %v\nwant %v", got, tt.want)
		}
	}
	srv.Close()
	if got, want := panics(func() { srv.Put("s", "x") }), `smtest: put "s": ServerClosed: smtest: the server is closed`; got != want {
		t.Errorf("Put panics with %v, want %v", got, want)
	}
}

func panics(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestPut(t *testing.T) {
	srv := smtest.New(&smtest.Options{Region: "eu-west-1", Account: "000000000001"})
	defer srv.Close()
	c := client(srv)
	first := srv.Put("s", "one")
	second := srv.Put("s", "two")
	out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || *out.VersionId != second || *out.SecretString != "two" {
		t.Fatalf("after two Puts: %v, %v", out, err)
	}
	if !strings.HasPrefix(*out.ARN, "arn:aws:secretsmanager:eu-west-1:000000000001:secret:s-") {
		t.Errorf("ARN = %s", *out.ARN)
	}
	third := srv.Put(*out.ARN, "three")
	if first == second || second == third {
		t.Error("two Puts made one version")
	}
	wantValue(t, c, "s", "three")
}
