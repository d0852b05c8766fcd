package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func file(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSeed(t *testing.T) {
	d := launch(t, "-seed", file(t, `{
		"text": "value <&> 1",
		"object": {"value": {"username": "app", "n": 1.50}},
		"number": {"value": 12},
		"binary": {"binary": "AAH/"},
		"empty": {},
		"full": {
			"value": "value 2",
			"description": "what it is",
			"tags": {"team": "core", "env": ""},
			"kmsKey": "alias/app",
			"policy": {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:DeleteSecret", "Resource": "*"}]}
		},
		"elsewhere": {"value": "value 3", "region": "eu-west-1"}
	}`))
	c := d.client()
	for id, want := range map[string]string{
		"text": "value <&> 1", "object": `{"username":"app","n":1.50}`, "number": "12", "binary": "\x00\x01\xff", "full": "value 2",
	} {
		if got := read(t, c, id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	if got := read(t, d.client(func(o *sm.Options) { o.Region = "eu-west-1" }), "elsewhere"); got != "value 3" {
		t.Errorf("elsewhere is %q", got)
	}
	if _, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("elsewhere")}); err == nil {
		t.Error("elsewhere is here")
	}
	empty, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("empty")})
	if err != nil || len(empty.VersionIdsToStages) > 0 {
		t.Errorf("empty: %v, %v", empty, err)
	}
	full, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("full")})
	if err != nil {
		t.Fatal(err)
	}
	var tags strings.Builder
	for _, tag := range full.Tags {
		fmt.Fprintf(&tags, "%s=%s ", *tag.Key, *tag.Value)
	}
	if got, want := *full.Description+" "+*full.KmsKeyId+" "+tags.String(), "what it is alias/app env= team=core "; got != want {
		t.Errorf("full: %s, want %s", got, want)
	}
	policy, err := c.GetResourcePolicy(t.Context(), &sm.GetResourcePolicyInput{SecretId: aws.String("full")})
	if err != nil || !strings.Contains(aws.ToString(policy.ResourcePolicy), `"Action":"secretsmanager:DeleteSecret"`) {
		t.Errorf("policy: %v, %v", policy, err)
	}
	log := d.stderr.String()
	if strings.Contains(log, "CreateSecret") || strings.Contains(log, "value") || !strings.Contains(log, "created=7 there_already=0") {
		t.Errorf("the log after the seed:\n%s", log)
	}
}

// TestSeedOfManual seeds a server with the example of the manual.
func TestSeedOfManual(t *testing.T) {
	manual, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(manual), "//\t{\n")
	example, _, ok := strings.Cut(example, "//\t}\n")
	if !ok {
		t.Fatal("there is no example")
	}
	c := launch(t, "-seed", file(t, "{"+strings.ReplaceAll(example, "//\t", "")+"}")).client()
	if got := read(t, c, "prod/api-key") + read(t, c, "prod/cert"); got != "k-123\x00\x01\x02" {
		t.Errorf("values %q", got)
	}
	if got := read(t, client(*c.Options().BaseEndpoint, func(o *sm.Options) { o.Region = "eu-west-1" }), "prod/db"); got != `{"username":"app","password":"one"}` {
		t.Errorf("value %q", got)
	}
}

// TestSeedAgain seeds a server that has the secrets already: they stay what they are,
// also those that are marked for deletion.
func TestSeedAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	d := launch(t, "-data", data, "-seed", file(t, `{"changed": "seed", "deleted": "seed", "same": "seed"}`))
	c := d.client()
	if err := write(t.Context(), c, acknowledged{"changed", token("new"), "another"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("deleted")}); err != nil {
		t.Fatal(err)
	}
	d.kill()
	d = launch(t, "-data", data, "-seed", file(t, `{"changed": "newer seed", "deleted": "newer seed", "same": "seed", "more": "seed"}`))
	c = d.client()
	if got := read(t, c, "changed") + " " + read(t, c, "same") + " " + read(t, c, "more"); got != "another seed seed" {
		t.Errorf("values %q", got)
	}
	out, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("deleted")})
	if err != nil || out.DeletedDate == nil {
		t.Errorf("deleted: %v, %v", out, err)
	}
}

// TestSeedRefused starts the server with seeds that are wrong: it says in which secret,
// without a value, and neither starts nor changes the state.
func TestSeedRefused(t *testing.T) {
	for _, tt := range []struct{ seed, want string }{
		{``, "it is not valid JSON in line 1"},
		{"{\n\n\"s\": hunter2}", "it is not valid JSON in line 3"},
		{`{"s": "hunter2"} {}`, "it is not valid JSON"},
		{`["hunter2"]`, "it is not a JSON object"},
		{`{"s": "hunter2", "s": "hunter2"}`, `"s" is there twice`},
		{`{"s": null}`, `secret "s": it is neither a string nor an object`},
		{`{"s": ["hunter2"]}`, `secret "s": it is neither a string nor an object`},
		{`{"s": {"username": "app", "password": "hunter2"}}`, `secret "s": "username" is none of value, `},
		{`{"s": {"value": null}}`, `secret "s": value: it is null`},
		{`{"s": {"value": "hunter2", "value": "hunter2"}}`, `secret "s": "value" is there twice`},
		{`{"s": {"binary": "hunter2"}}`, `secret "s": binary: it is not base64`},
		{`{"s": {"binary": null}}`, `secret "s": binary: it is not base64`},
		{`{"s": {"value": "hunter2", "binary": "AAEC"}}`, "You can't specify both a binary secret value and a string"},
		{`{"s": {"description": {"hunter2": 1}}}`, `secret "s": description: it is not a string`},
		{`{"s": {"kmsKey": 1}}`, `secret "s": kmsKey: it is not a string`},
		{`{"s": {"tags": ["hunter2"]}}`, `secret "s": tags: it is not an object of strings`},
		{`{"s": {"tags": {"aws:x": "hunter2"}}}`, "InvalidParameterException"},
		{`{"s": {"region": "hunter2"}}`, `secret "s": region: it is not a Region`},
		{`{"s": {"policy": "hunter2"}}`, "MalformedPolicyDocumentException"},
		{`{"s": {"policy": null}}`, `secret "s": policy: it is null`},
		{`{"no name": "hunter2"}`, "Invalid name."},
		{`{"": "hunter2"}`, `secret "": `},
		{`{"s": ""}`, "You must provide either SecretString or SecretBinary."},
		{`{"s": "` + strings.Repeat("hunter2", 10000) + `"}`, "less than or equal to 65536"},
	} {
		data := filepath.Join(t.TempDir(), "data")
		status, stdout, stderr := program(t, "-listen", "127.0.0.1:0", "-data", data, "-seed", file(t, tt.seed))
		if status != 1 || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%.60s: status %d, stdout %q, stderr %q, want %q", tt.seed, status, stdout, stderr, tt.want)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("%.60s: the error shows a value: %s", tt.seed, stderr)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%.60s: there is a state now", tt.seed)
		}
	}
}
