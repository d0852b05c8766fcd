package cache_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// The role app of the account 111122223333 reads a secret of 123456789012, with the
// policies of docs/cross-account.md: that is where they are, and nowhere else.
const (
	ownerKey  = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	pageARN   = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-a1B2c3"
	readerARN = "arn:aws:sts::111122223333:assumed-role/app/i"
)

// policies are the three, and what they are about.
type policies struct {
	identity, resource, key string

	name string // by which the reader asks; empty: the ARN
	kms  string // the secret's key
}

// pagePolicies returns what the page has.
func pagePolicies(t *testing.T) policies {
	t.Helper()
	page, err := os.ReadFile("../docs/cross-account.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, block := range strings.Split(string(page), "```json\n")[1:] {
		policy, _, _ := strings.Cut(block, "```")
		found = append(found, policy)
	}
	if len(found) != 3 {
		t.Fatalf("docs/cross-account.md has %d policies", len(found))
	}
	return policies{identity: found[0], resource: found[1], key: found[2], kms: ownerKey}
}

// without returns the policy without the statement, which it must have.
func without(t *testing.T, policy, sid string) string {
	t.Helper()
	var document struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(policy), &document); err != nil {
		t.Fatal(err)
	}
	before := len(document.Statement)
	document.Statement = slices.DeleteFunc(document.Statement, func(s map[string]any) bool { return s["Sid"] == sid })
	if len(document.Statement) != before-1 {
		t.Fatalf("the policy has no statement %s, or more than one:\n%s", sid, policy)
	}
	out, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// replaced returns the policy with another text in it, of which it must have the old.
func replaced(t *testing.T, policy, old, text string) string {
	t.Helper()
	if !strings.Contains(policy, old) {
		t.Fatalf("the policy has no %q:\n%s", old, policy)
	}
	return strings.ReplaceAll(policy, old, text)
}

// set makes the server have the policies, and returns the reader's client.
func (a policies) set(t *testing.T, srv *smtest.Server, arn string) *secretsmanager.Client {
	t.Helper()
	_, err := srv.Client().PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{
		SecretId: aws.String(arn), ResourcePolicy: aws.String(a.resource), BlockPublicPolicy: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.AddKey(smtest.Key{ARN: ownerKey, Policy: a.key})
	return srv.Client(noRetry, srv.AddCaller(smtest.Caller{
		ARN: readerARN, AccessKeyID: "ASIAREADER0000000000",
		Policies: []string{strings.ReplaceAll(a.identity, pageARN, arn)},
	}))
}

// acrossAccounts has the reader read with these policies, and calls f with the error.
// Then those of the page are set, and the same cache is to read.
func acrossAccounts(t *testing.T, a policies, f func(t *testing.T, arn string, err error)) {
	t.Helper()
	page := pagePolicies(t)
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		owner := srv.Client()
		secret, err := owner.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("prod/db"), SecretString: aws.String("v1"), KmsKeyId: aws.String(a.kms),
		})
		if err != nil {
			t.Fatal(err)
		}
		arn := *secret.ARN
		c, err := cache.New(a.set(t, srv, arn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		id := strings.ReplaceAll(a.name, pageARN[:len(pageARN)-7], arn[:len(arn)-7])
		if id == "" {
			id = arn
		}
		_, err = c.Get(t.Context(), id)
		f(t, arn, err)

		page.set(t, srv, arn)
		if _, err := owner.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{SecretId: secret.ARN, KmsKeyId: aws.String(page.kms)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // a denial is held for less
		if s, err := c.Get(t.Context(), arn); err != nil || s.Text() != "v1" {
			t.Errorf("Get with the policies of the page: %v", err)
		}
	})
}

func TestCrossAccount(t *testing.T) {
	acrossAccounts(t, pagePolicies(t), func(t *testing.T, _ string, err error) {
		if err != nil {
			t.Errorf("Get with the policies of the page: %v", err)
		}
	})
}

// The policies of the page have nothing in them that is not needed, and who has
// forgotten a part is told which.
func TestCrossAccountNamesWhatIsMissing(t *testing.T) {
	const read = "secretsmanager:GetSecretValue on ARN"
	noKMS := []string{"the KMS key policy or the caller's identity policy does not: allow kms:Decrypt on the key of ARN", "in both if the key is of another account"}
	for name, test := range map[string]struct {
		change func(t *testing.T, a *policies)
		want   []string // ARN is the secret's
	}{
		"identity policy": {
			func(t *testing.T, a *policies) { a.identity = without(t, a.identity, "Read") },
			[]string{"the caller's identity policy does not allow it: add " + read},
		},
		"identity policy on another secret": {
			func(t *testing.T, a *policies) { a.identity = replaced(t, a.identity, "secret:prod", "secret:test") },
			[]string{"the caller's identity policy does not allow it: add " + read},
		},
		"resource policy": {
			func(t *testing.T, a *policies) { a.resource = without(t, a.resource, "ReadByApp") },
			[]string{"the resource policy on the secret does not allow it: add " + read},
		},
		"resource policy for another role": {
			func(t *testing.T, a *policies) { a.resource = replaced(t, a.resource, "role/app", "role/other") },
			[]string{"the resource policy on the secret does not allow it: add " + read},
		},
		"identity policy for the key": {
			func(t *testing.T, a *policies) { a.identity = without(t, a.identity, "Decrypt") },
			noKMS,
		},
		"key policy": {
			func(t *testing.T, a *policies) { a.key = without(t, a.key, "DecryptByApp") },
			noKMS,
		},
		"key policy for another role": {
			func(t *testing.T, a *policies) { a.key = replaced(t, a.key, "role/app", "role/other") },
			noKMS,
		},
		"key policy for another Region": {
			func(t *testing.T, a *policies) {
				a.key = replaced(t, a.key, "secretsmanager.us-east-1", "secretsmanager.eu-west-1")
			},
			noKMS,
		},
		"key policy for another service": {
			func(t *testing.T, a *policies) {
				a.key = replaced(t, a.key, "secretsmanager.us-east-1", "ssm.us-east-1")
			},
			noKMS,
		},
		"key: the default one": {
			func(_ *testing.T, a *policies) { a.kms = "alias/aws/secretsmanager" },
			[]string{"aws/secretsmanager is for its own account alone", "UpdateSecret", "kms:Decrypt", "key's policy", "identity policy"},
		},
		"ARN: the name alone": {
			func(_ *testing.T, a *policies) { a.name = "prod/db" },
			[]string{"AccessDeniedException", "on prod/db to it", "a secret of another account needs its full "},
		},
		"ARN: without its end": {
			func(_ *testing.T, a *policies) { a.name = pageARN[:len(pageARN)-7] },
			[]string{"AccessDeniedException", "a secret of another account needs its full "},
		},
		"ARN: the name alone, for who may read all": {
			func(t *testing.T, a *policies) {
				a.name, a.identity = "prod/db", replaced(t, a.identity, pageARN, "*")
			},
			[]string{"ResourceNotFoundException", "a secret of another account needs its full "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := pagePolicies(t)
			test.change(t, &a)
			acrossAccounts(t, a, func(t *testing.T, arn string, err error) {
				failed, ok := errors.AsType[*cache.Error](err)
				if !ok || failed.Transient {
					t.Fatalf("Get: %v, want an error that lasts", err)
				}
				for _, want := range test.want {
					if want = strings.ReplaceAll(want, "ARN", arn); !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
				if strings.Contains(err.Error(), "RestoreSecret") {
					t.Errorf("%q: nothing is deleted", err)
				}
			})
		})
	}
}
