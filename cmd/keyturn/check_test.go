package main_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/aws/smithy-go"

	main "github.com/keyturn/keyturn/cmd/keyturn"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/smtest"
)

func rules() *types.RotationRulesType {
	return &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)}
}

func TestTable(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		stuckRotation(d)
		status, out, errs := d.run("check", "prod/db")
		if status != 1 || errs != "" {
			t.Errorf("check = %d, %q", status, errs)
		}
		golden(t, "testdata/stuck.txt", steady(out, ids(t, d)...))
	})
}

func TestJSON(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		stuckRotation(d)
		status, out, errs := d.run("check", "prod/db", "-json")
		if status != 1 || errs != "" {
			t.Errorf("check = %d, %q", status, errs)
		}
		golden(t, "testdata/stuck.json", steady(out, ids(t, d)...))
	})
}

// golden compares with a file, which KEYTURN_TEST_UPDATE has written anew.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("KEYTURN_TEST_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s:\n%s", file, got)
	}
}

func TestHealthy(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		d.srv.AddFunction(function, d.srv.KeepValue())
		d.rotate()
		if err := d.srv.Wait(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		all := d.check(0, "prod/db")
		d.want(all, "identity", "ok", caller)
		d.want(all, "access", "ok")
		d.want(all, "version", "ok", "AWSCURRENT", "0 s old")
		d.want(all, "value", "ok", "PostgreSQL on db.example.com:5432", `user "app"`, `database "orders"`)
		d.want(all, "rotation", "ok", "every 30 days", function, "next until 2000-01-31 23:59 UTC")
		d.want(all, "stuck", "ok")
		status, out, _ := d.run("check", "prod/db")
		if status != 0 || !strings.HasSuffix(out, "\nhealthy\n") {
			t.Errorf("check = %d, %s", status, out)
		}
	})
}

// Each policy is denied in turn; the finding says which, and what to allow on what.
func TestDenied(t *testing.T) {
	const (
		arn   = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-"
		key   = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
		all   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
		reads = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"secretsmanager:GetSecretValue","Resource":"*"}]}`
	)
	statement := func(effect, action string) string {
		return `{"Effect":"` + effect + `","Principal":{"AWS":"` + caller + `"},"Action":"` + action + `","Resource":"*"}`
	}
	for name, test := range map[string]struct {
		identity  string
		resource  string // a statement of the policy on the secret
		keyPolicy string
		status    int
		want      [][]string
	}{
		"describe, by the identity policy": {
			identity: reads, status: 1,
			want: [][]string{{"DescribeSecret", "the caller's identity policy does not allow it", "add secretsmanager:DescribeSecret on " + arn}},
		},
		"list, by the identity policy": {
			identity: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["secretsmanager:GetSecretValue","secretsmanager:DescribeSecret"],"Resource":"*"}]}`, status: 1,
			want: [][]string{{"ListSecretVersionIds", "the caller's identity policy", "add secretsmanager:ListSecretVersionIds on " + arn}},
		},
		"get, by the identity policy": {
			identity: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["secretsmanager:DescribeSecret","secretsmanager:List*"],"Resource":"*"}]}`, status: 1,
			want: [][]string{{"GetSecretValue of AWSCURRENT", "the caller's identity policy", "add secretsmanager:GetSecretValue on " + arn}},
		},
		"AWSPENDING alone": {
			identity: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"secretsmanager:GetSecretValue",` +
				`"Resource":"*","Condition":{"StringEquals":{"secretsmanager:VersionStage":"AWSPENDING"}}}]}`,
			status: 1,
			want:   [][]string{{"GetSecretValue of AWSPENDING", "the caller's identity policy denies it outright"}},
		},
		"get, by the resource policy": {
			identity: all, resource: statement("Deny", "secretsmanager:GetSecretValue"), status: 1,
			want: [][]string{{"GetSecretValue of AWSCURRENT", "the resource policy on the secret denies it outright", "secretsmanager:GetSecretValue on " + arn}},
		},
		"decrypt, by the key's policy": {
			identity:  all,
			keyPolicy: `{"Version":"2012-10-17","Statement":[` + strings.Replace(statement("Allow", "kms:*"), caller, "arn:aws:iam::123456789012:user/other", 1) + `]}`,
			status:    1,
			want:      [][]string{{"GetSecretValue of AWSCURRENT", "the KMS key policy", "kms:Decrypt", key}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, d *doctor) {
				d.srv.AddKey(smtest.Key{ARN: key, Policy: test.keyPolicy})
				admin := d.srv.Client(d.srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::123456789012:user/other"}))
				in := &secretsmanager.CreateSecretInput{Name: aws.String("prod/db"), SecretString: aws.String(value("-one"))}
				if test.keyPolicy != "" {
					in.KmsKeyId = aws.String(key)
				}
				if _, err := admin.CreateSecret(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				d.srv.StartRotation("prod/db", value("-two"))
				if test.resource != "" {
					if _, err := admin.PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{
						SecretId: aws.String("prod/db"), ResourcePolicy: aws.String(`{"Version":"2012-10-17","Statement":[` + test.resource + `]}`),
					}); err != nil {
						t.Fatal(err)
					}
				}
				d.api = d.srv.Client(d.srv.AddCaller(smtest.Caller{ARN: caller, Policies: []string{test.identity}}))
				found := d.check(test.status, "prod/db")
				for _, texts := range test.want {
					d.want(found, "access", "problem", texts...)
				}
			})
		})
	}
}

// What is not known is not a problem, and is not health either.
func TestUnchecked(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		for _, test := range []struct {
			fault smtest.Fault
			texts []string
		}{
			{smtest.Fault{Err: smtest.Throttling}, []string{"DescribeSecret", "ThrottlingException"}},
			{smtest.Fault{Err: smtest.ExpiredToken}, []string{"ExpiredTokenException", "credentials"}},
			{smtest.Fault{Operation: "ListSecretVersionIds", Err: smtest.InternalServiceError}, []string{"ListSecretVersionIds"}},
			{smtest.Fault{Operation: "GetSecretValue", Delay: smtest.Forever}, []string{"GetSecretValue of AWSCURRENT", "no answer in time", "-timeout"}},
		} {
			remove := d.srv.Inject(test.fault)
			d.want(d.check(3, "prod/db"), "access", "unknown", test.texts...)
			remove()
		}
	})
}

// The SDK had its credentials from another service, which denied them: no policy on
// the secret has to do with it.
func TestDeniedElsewhere(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		denying := d.srv.Client()
		d.srv.Inject(smtest.Fault{Caller: "123456789012", SecretID: "prod/credentials", Err: smtest.AccessDenied})
		d.api = d.srv.Client(func(o *secretsmanager.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
				_, err := denying.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/credentials")})
				if op, ok := errors.AsType[*smithy.OperationError](err); ok {
					op.ServiceID = "SSO"
				}
				return aws.Credentials{}, err
			})
		})
		if f := d.want(d.check(3, "prod/db"), "access", "unknown", "credentials"); strings.Contains(f.Fix, "policy") {
			t.Errorf("the fix is %q", f.Fix)
		}
	})
}

// Everything but the identity goes on without STS.
func TestNoIdentity(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		var out, errs strings.Builder
		refuse := identity(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		if status := main.Run(t.Context(), d.api, refuse, "us-east-1", []string{"check", "prod/db"}, &out, &errs); status != 0 || !strings.Contains(out.String(), "going on without") {
			t.Errorf("check = %d:\n%s%s", status, &out, &errs)
		}
	})
}

func TestNoSuchSecret(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, d *doctor) {
		d.want(d.check(1, "prod/none"), "access", "problem", "ResourceNotFoundException", "check the name, the region")
	})
}

func TestDeleted(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		if _, err := d.srv.Client().DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String("prod/db")}); err != nil {
			t.Fatal(err)
		}
		d.want(d.check(1, "prod/db"), "secret", "problem", "marked for deletion", "\n  aws secretsmanager restore-secret --secret-id prod/db --region us-east-1")
		if n := d.srv.Count("GetSecretValue"); n != 0 {
			t.Errorf("%d reads of a deleted secret", n)
		}
	})
}

// A replica is written in the primary Region, and so the commands go there.
func TestReplicaOfSecret(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		if _, err := d.srv.Client().ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: aws.String("prod/db"), AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}},
		}); err != nil {
			t.Fatal(err)
		}
		d.srv.StartRotation("prod/db", value("-two"))
		time.Sleep(time.Hour)
		d.region, d.api = "eu-west-1", d.srv.Client(func(o *secretsmanager.Options) { o.Region = "eu-west-1" })
		all := d.check(1, "prod/db")
		d.want(all, "secret", "note", "a replica", "us-east-1")
		d.want(all, "rotation", "note", "in us-east-1")
		d.want(all, "stuck", "problem", "aws secretsmanager rotate-secret --secret-id prod/db --region us-east-1")
	})
}

func TestManaged(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.PutManaged("rds!db-1", `{"username":"master","password":"`+sentinel+`"}`, smtest.Manager{
			Service: "rds",
			NewValue: func(_ context.Context, old string) (string, error) {
				return strings.Replace(old, sentinel, sentinel+"2", 1), nil
			},
			SetValue: func(context.Context, string) error { return errors.New("storage full") },
		})
		all := d.check(0, "rds!db-1")
		d.want(all, "secret", "note", `managed by the service "rds"`)
		d.want(all, "value", "note", "Options.Host")
		if _, err := d.srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("rds!db-1")}); err != nil {
			t.Fatal(err)
		}
		_ = d.srv.Wait(t.Context(), "rds!db-1")
		time.Sleep(time.Hour)
		// Its labels are the service's to move.
		if f := d.want(d.check(1, "rds!db-1"), "stuck", "problem", "  aws secretsmanager rotate-secret --secret-id 'rds!db-1' --region"); strings.Contains(f.Fix, "update-secret-version-stage") {
			t.Errorf("the fix moves labels: %s", f.Fix)
		}
	})
}

// Not even one without a value is the user's to give up.
func TestManagedWithoutValue(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.PutManaged("rds!db-1", `{"username":"master","password":"`+sentinel+`"}`, smtest.Manager{
			Service: "rds", NewValue: func(context.Context, string) (string, error) { return "", errors.New("not today") },
		})
		if _, err := d.srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("rds!db-1")}); err != nil {
			t.Fatal(err)
		}
		_ = d.srv.Wait(t.Context(), "rds!db-1")
		time.Sleep(time.Hour)
		if f := d.want(d.check(1, "rds!db-1"), "stuck", "problem", "no value", "rotate-secret"); strings.Contains(f.Fix, "update-secret-version-stage") {
			t.Errorf("the fix moves labels: %s", f.Fix)
		}
	})
}

func TestRotationOfACopy(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		id := d.srv.StartRotation("prod/db", value("-one"))
		time.Sleep(time.Hour)
		d.want(d.check(1, "prod/db"), "stuck", "problem", "a copy of AWSCURRENT", "--version-stage AWSPENDING --remove-from-version-id "+id)
	})
}

func TestRotationWithoutValue(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		d.srv.AddFunction(function, func(context.Context, []byte) error { return errors.New("createSecret is not for today") })
		d.rotate()
		_ = d.srv.Wait(t.Context(), "prod/db")
		d.want(d.check(0, "prod/db"), "stuck", "note", "under way", "0 s old")
		time.Sleep(time.Hour)
		f := d.want(d.check(1, "prod/db"), "stuck", "problem", "stuck", "no value", "the database has not changed", "  aws logs tail /aws/lambda/rotate-db")
		// The commands do free it.
		last := strings.Split(f.Fix, "\n")
		if len(last) < 2 || last[len(last)-2] != "  aws secretsmanager update-secret-version-stage --secret-id prod/db --version-stage AWSPENDING --remove-from-version-id "+f.Version+" --region us-east-1" {
			t.Errorf("the fix is %q", f.Fix)
		}
		if _, err := d.srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: aws.String("prod/db"), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: &f.Version,
		}); err != nil {
			t.Fatal(err)
		}
		d.srv.AddFunction(function, d.srv.KeepValue())
		d.rotate()
		if err := d.srv.Wait(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		d.want(d.check(0, "prod/db"), "stuck", "ok")
	})
}

func TestRotationSwitchedOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		stuckRotation(d)
		if _, err := d.srv.Client().CancelRotateSecret(t.Context(), &secretsmanager.CancelRotateSecretInput{SecretId: aws.String("prod/db")}); err != nil {
			t.Fatal(err)
		}
		d.want(d.check(1, "prod/db"), "rotation", "problem", "switched off, in the midst of a rotation", "rotate-secret")
	})
}

// late answers with a rotation window that has passed.
type late struct{ main.SecretsAPI }

func (l late) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	out, err := l.SecretsAPI.DescribeSecret(ctx, in, opts...)
	if err == nil {
		out.NextRotationDate = aws.Time(time.Now().Add(-48 * time.Hour))
	}
	return out, err
}

func TestRotationOverdue(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		d.srv.AddFunction(function, d.srv.KeepValue())
		d.rotate()
		if err := d.srv.Wait(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		d.api = late{d.api}
		d.want(d.check(1, "prod/db"), "rotation", "problem", "was due until 1999-12-30 00:00 UTC, 2 days ago", "rotate-secret", "/aws/lambda/rotate-db")
	})
}

func TestReplicationFailed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		there := d.srv.Client(func(o *secretsmanager.Options) { o.Region = "eu-west-1" })
		if _, err := there.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("prod/db"), SecretString: aws.String(value("-two"))}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.srv.Client().ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: aws.String("prod/db"), AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}},
		}); err != nil {
			t.Fatal(err)
		}
		d.want(d.check(1, "prod/db"), "secret", "problem", "replication to eu-west-1 has failed", "--force-overwrite-replica-secret")
	})
}

func TestRotationGivenUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		time.Sleep(time.Minute)
		d.srv.StartRotation("prod/db", value("-two"))
		id := d.srv.AbandonRotation("prod/db")
		if f := d.want(d.check(0, "prod/db"), "stuck", "note", "without a label is newer", "  keyturn check -login -region us-east-1 prod/db"); f.Version != id {
			t.Errorf("it is about version %s, want %s", f.Version, id)
		}
	})
}

func TestValues(t *testing.T) {
	for name, test := range map[string]struct {
		value, status string
		exit          int
		texts         []string
	}{
		"a key":             {sentinel, "note", 0, []string{"not a database secret"}},
		"an object":         {`{"apiKey":"` + sentinel + `"}`, "note", 0, []string{"not a database secret"}},
		"no password":       {`{"engine":"mysql","host":"h","username":"app"}`, "problem", 1, []string{`"password" is missing`}},
		"no user":           {`{"engine":"mysql","host":"h","password":"` + sentinel + `"}`, "problem", 1, []string{`"username" is missing`}},
		"a bad port":        {`{"host":"h","port":"` + sentinel + `","username":"app","password":"` + sentinel + `"}`, "problem", 1, []string{`"port" is not a number`}},
		"a password of 1":   {`{"host":"h","username":"app","password":1}`, "problem", 1, []string{`"password" is not a string`}},
		"no host":           {`{"engine":"postgres","username":"app","password":"` + sentinel + `"}`, "problem", 1, []string{"does not name", `put "host"`}},
		"another engine":    {`{"engine":"oracle","host":"h","port":1521,"username":"app","password":"` + sentinel + `"}`, "note", 0, []string{"h:1521", "none that dbconn has a package for"}},
		"mysql, by default": {`{"engine":"Aurora-MySQL","host":"h","username":"app","password":"` + sentinel + `"}`, "ok", 0, []string{"MySQL or MariaDB on h:3306"}},
		"a terminal's code": {`{"engine":"mysql","host":"h\u001b[2J","username":"app","password":"` + sentinel + `"}`, "ok", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, d *doctor) {
				d.srv.Put("prod/db", test.value)
				d.want(d.check(test.exit, "prod/db"), "value", test.status, append(test.texts, "AWSCURRENT: ")...)
				if _, out, _ := d.run("check", "prod/db"); strings.ContainsRune(out, '\x1b') {
					t.Errorf("the table has an escape code: %q", out)
				}
			})
		})
	}
}

func TestUsage(t *testing.T) {
	d := newDoctor(t, nil)
	status, out, errs := d.run("-h")
	if status != 0 || errs != "" || out != main.Usage || strings.Count(out, "\n") > 24 {
		t.Errorf("-h = %d, %d lines, %q", status, strings.Count(out, "\n"), errs)
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 {
			t.Errorf("too long for a screen: %q", line)
		}
	}
	for _, args := range [][]string{
		{},
		{"heal", "prod/db"},
		{"check"},
		{"check", ""},
		{"check", "a", "b"},
		{"check", "-what", "a"},
		{"check", "a", "-replica", "b:1"},
		{"check", "-login", "-replica", "b", "a"},
		{"check", "-timeout", "0s", "a"},
		{"check", "-endpoint-url", "localhost:4566", "a"},
	} {
		if status, out, errs := d.run(args...); status != 2 || out != "" || !strings.HasPrefix(errs, "keyturn: ") {
			t.Errorf("keyturn %q = %d, %q, %q; want 2 and a word on standard error", args, status, out, errs)
		}
	}
	if n := d.srv.Count(""); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// What the program holds shows no value, however it is printed.
func TestNothingHeldLeaks(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *doctor) {
		d.srv.Put("prod/db", value("-one"))
		leaktest.Check(t, sentinel, main.Look(t.Context(), d.api, "prod/db", "us-east-1"))
	})
}

// The program as a user runs it: a process, the AWS configuration, a socket.
func TestProgram(t *testing.T) {
	d := newDoctor(t, nil)
	d.srv.Put("prod/db", value("-one"))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "" {
			answerSTS(w, r)
			return
		}
		d.srv.ServeHTTP(w, r)
	}))
	defer web.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"check", "-endpoint-url", web.URL, "-region", "us-east-1", "prod/db"}, 0, "\nhealthy\n"},
		{[]string{"check", "-endpoint-url", web.URL, "-json", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-a1B2c3"}, 1, `"region": "eu-west-1"`},
		{[]string{"check", "-endpoint-url", web.URL, "prod/db"}, 3, "give -region"},
		{[]string{"check", "-profile", "none", "prod/db"}, 3, "none"},
	} {
		cmd := exec.CommandContext(t.Context(), exe, test.args...)
		cmd.Env = []string{asProgram + "=1", "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=AKIALOCALLOCALLOCAL", "AWS_SECRET_ACCESS_KEY=x", "AWS_EC2_METADATA_DISABLED=true"}
		out, err := cmd.CombinedOutput()
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != test.status || !strings.Contains(string(out), test.want) || strings.Contains(string(out), sentinel) {
			t.Errorf("keyturn %q = %d, want %d and %q:\n%s", test.args, status, test.status, test.want, out)
		}
	}
}
