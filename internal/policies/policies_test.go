// Package policies_test takes the policies of the documentation at their word: each
// suffices for what it is for, and without any of its actions something fails.
package policies_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

const (
	pageARN     = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
	keyARN      = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	functionARN = "arn:aws:lambda:us-east-1:123456789012:function:rotate"
)

// policy returns the first policy that a page has under a heading.
func policy(t *testing.T, page, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, ok := strings.Cut(section, "```json\n")
	if !ok {
		t.Fatalf("%s: %q has no policy", page, heading)
	}
	block, _, _ = strings.Cut(block, "```")
	return block
}

// A statement is one of a policy.
type statement struct {
	Effect    string
	Action    any
	Resource  string
	Condition any `json:",omitempty"`
}

type document struct {
	Version   string
	Statement []statement
}

// without returns the policy once for each of its actions, by its name, without it.
func without(t *testing.T, policy string) map[string]string {
	t.Helper()
	parse := func() (d document) {
		if err := json.Unmarshal([]byte(policy), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	variants := map[string]string{}
	for i, s := range parse().Statement {
		for _, action := range actions(s) {
			d := parse()
			left := slices.DeleteFunc(actions(s), func(a string) bool { return a == action })
			if d.Statement[i].Action = left; len(left) == 0 {
				d.Statement = slices.Delete(d.Statement, i, i+1)
			}
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			variants[action] = string(text)
		}
	}
	return variants
}

func actions(s statement) []string {
	if one, ok := s.Action.(string); ok {
		return []string{one}
	}
	var all []string
	for _, a := range s.Action.([]any) {
		all = append(all, a.(string))
	}
	return all
}

// A use is what a policy is for. It reports what was denied.
type use func(t *testing.T, srv *smtest.Server, client *secretsmanager.Client) error

// world returns a server with the secrets of the pages, one of which has a key.
func world(t *testing.T) *smtest.Server {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.AddKey(smtest.Key{ARN: keyARN})
	for name, value := range map[string]string{
		"prod/db": `{"username":"app","password":"one"}`, "prod/super": `{"username":"super","password":"s"}`, "prod/db-admin": "another's", "prod/other": "another's",
	} {
		srv.Put(name, value)
	}
	if _, err := srv.Rotate(t.Context(), "prod/db", `{"username":"app","password":"two"}`); err != nil {
		t.Fatal(err)
	}
	return srv
}

// The policies, and what they are for.
func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		page, heading string
		use           use
		with          []string // headings of policies.md, whose policies are there too
	}{
		{"policies.md", "Reader", read, nil},
		{"lambda.md", "Policy", read, nil},
		{"ecs-eks.md", "Policy", read, nil},
		{"policies.md", "Reader of many", prefetch, nil},
		{"policies.md", "Rotation", rotate, nil},
		{"policies.md", "Rotation with a superuser", readSuper, nil},
		{"policies.md", "A KMS key of your own", rotateWithKey, []string{"Rotation"}},
		{"doctor.md", "Policy", diagnose, nil},
		{"agent.md", "Permissions", behindAgent, nil},
	} {
		t.Run(test.page+" "+test.heading, func(t *testing.T) {
			page := policy(t, test.page, test.heading)
			var others []string
			for _, heading := range test.with {
				others = append(others, policy(t, "policies.md", heading))
			}
			try := func(p string) (*secretsmanager.Client, error) {
				srv := world(t)
				client := srv.Client(srv.AddCaller(smtest.Caller{
					ARN: "arn:aws:sts::123456789012:assumed-role/app/i", Policies: append([]string{p}, others...),
				}), func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 })
				return client, test.use(t, srv, client)
			}
			client, err := try(page)
			if err != nil {
				t.Errorf("with the policy: %v", err)
			}
			for _, name := range []string{"prod/db-admin", "prod/other"} {
				if _, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name}); err == nil {
					t.Errorf("the policy lets %s be read too", name)
				}
			}
			for action, less := range without(t, page) {
				if _, err := try(less); err == nil {
					t.Errorf("nothing fails without %s", action)
				}
			}
		})
	}
}

func get(ctx context.Context, client *secretsmanager.Client, id string) error {
	c, err := cache.New(client, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Get(ctx, id)
	return err
}

// read reads what dbconn may: AWSCURRENT and AWSPREVIOUS.
func read(t *testing.T, _ *smtest.Server, client *secretsmanager.Client) error {
	c, err := cache.New(client, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Get(t.Context(), "prod/db")
	_, previous := c.GetStage(t.Context(), "prod/db", cache.Previous)
	return errors.Join(err, previous)
}

func readSuper(t *testing.T, _ *smtest.Server, client *secretsmanager.Client) error {
	return get(t.Context(), client, "prod/super")
}

// prefetch counts what is to be one call: without the batch, Prefetch reads one by one.
func prefetch(t *testing.T, srv *smtest.Server, client *secretsmanager.Client) error {
	c, err := cache.New(client, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Prefetch(t.Context(), "prod/db")
	if n := len(srv.CallsLike(smtest.Call{Operation: "BatchGetSecretValue"})); err == nil && (n != 1 || srv.Calls()[0].Code != "") {
		err = errors.New("not in one call")
	}
	return err
}

func diagnose(t *testing.T, _ *smtest.Server, client *secretsmanager.Client) error {
	_, described := client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("prod/db")})
	_, listed := client.ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: aws.String("prod/db")})
	return errors.Join(described, listed, get(t.Context(), client, "prod/db"))
}

func behindAgent(t *testing.T, srv *smtest.Server, client *secretsmanager.Client) error {
	useKey(t, srv)
	_, err := client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("prod/db")})
	return errors.Join(err, get(t.Context(), client, "prod/db"))
}

// useKey encrypts the secret, as it is from now on, with the key.
func useKey(t *testing.T, srv *smtest.Server) {
	t.Helper()
	_, err := srv.Client().UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
		SecretId: aws.String("prod/db"), KmsKeyId: aws.String(keyARN), SecretString: aws.String(`{"username":"app","password":"two"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func rotateWithKey(t *testing.T, srv *smtest.Server, client *secretsmanager.Client) error {
	useKey(t, srv)
	return rotateOnce(t, srv, client, "two")
}

// rotate rotates, and then finds a password that has lost its label.
func rotate(t *testing.T, srv *smtest.Server, client *secretsmanager.Client) error {
	if err := rotateOnce(t, srv, client, "two"); err != nil {
		return err
	}
	return rotateOnce(t, srv, client, "one")
}

// rotateOnce rotates by a target that takes one password.
func rotateOnce(t *testing.T, srv *smtest.Server, client *secretsmanager.Client, password string) error {
	t.Helper()
	if password == "one" { // of which the version is to have no label
		for _, value := range []string{"lost", "lost again"} {
			if _, err := srv.Rotate(t.Context(), "prod/db", `{"username":"app","password":"`+value+`"}`); err != nil {
				t.Fatal(err)
			}
		}
	}
	h := rotation.NewHandler(client, &target{password}, &rotation.Options{SettleTime: -1})
	srv.AddFunction(functionARN, smtest.Lambda(h.Handle))
	_, err := srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("prod/db"), RotationLambdaARN: aws.String(functionARN)})
	if err != nil {
		t.Fatal(err)
	}
	return srv.Wait(t.Context(), "prod/db")
}

// A target has one user.
type target struct{ password string }

func password(v *rotation.Value) string {
	var s struct{ Password string }
	_ = v.Decode(&s)
	return s.Password
}

func (g *target) Next(current, generated *rotation.Value) (*rotation.Value, error) {
	return current.With("password", generated.Text())
}

func (*target) Check(_, _ *rotation.Value) error { return nil }

func (g *target) Set(_ context.Context, c rotation.Change) error {
	if c.As == nil || password(c.As) != g.password {
		return rotation.Refused(errors.New("no"))
	}
	g.password = password(c.Pending)
	return nil
}

func (g *target) Test(_ context.Context, v *rotation.Value) error {
	if password(v) != g.password {
		return rotation.Refused(errors.New("no"))
	}
	return nil
}
