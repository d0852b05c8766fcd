package smtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

const (
	cur  = "AWSCURRENT"
	pend = "AWSPENDING"
	prev = "AWSPREVIOUS"
)

// Every row starts with a secret s whose version a, with the value "a", is
// AWSCURRENT, and ends with the last of its calls. Each value is its version's
// name.
func TestLabels(t *testing.T) {
	type call func(ctx context.Context, c *sm.Client) error
	puts := func(version string, stages ...string) call {
		return func(ctx context.Context, c *sm.Client) error { return put(ctx, c, "s", version, version, stages...) }
	}
	putValue := func(version, value string, stages ...string) call {
		return func(ctx context.Context, c *sm.Client) error { return put(ctx, c, "s", version, value, stages...) }
	}
	moves := func(label, from, to string) call {
		return func(ctx context.Context, c *sm.Client) error { return move(ctx, c, "s", label, from, to) }
	}
	tests := map[string]struct {
		calls   []call
		want    string // the versions and their labels
		current string // the value of a plain read, "a" if empty
		err     string // of the last call
	}{
		"put makes current and previous": {
			calls: []call{puts("b")},
			want:  "a:AWSPREVIOUS b:AWSCURRENT", current: "b",
		},
		"put current in words": {
			calls: []call{puts("b", cur)},
			want:  "a:AWSPREVIOUS b:AWSCURRENT", current: "b",
		},
		"the older previous loses its label and stays": {
			calls: []call{puts("b"), puts("c")},
			want:  "a: b:AWSPREVIOUS c:AWSCURRENT", current: "c",
		},
		"put drops pending from the old current": {
			calls: []call{moves(pend, "", "a"), puts("b")},
			want:  "a:AWSPREVIOUS b:AWSCURRENT", current: "b",
		},
		"put leaves pending elsewhere": {
			calls: []call{puts("b", pend), puts("c")},
			want:  "a:AWSPREVIOUS b:AWSPENDING c:AWSCURRENT", current: "c",
		},
		"put leaves a custom label on the old current": {
			calls: []call{moves("x", "", "a"), puts("b")},
			want:  "a:AWSPREVIOUS,x b:AWSCURRENT", current: "b",
		},
		"put of current and pending takes both": {
			calls: []call{moves(pend, "", "a"), puts("b", cur, pend)},
			want:  "a:AWSPREVIOUS b:AWSCURRENT,AWSPENDING", current: "b",
		},
		"put pending moves nothing else": {
			calls: []call{puts("b"), puts("c", pend)},
			want:  "a:AWSPREVIOUS b:AWSCURRENT c:AWSPENDING", current: "b",
		},
		"put pending takes it from another version": {
			calls: []call{puts("b", pend), puts("c", pend)},
			want:  "a:AWSCURRENT b: c:AWSPENDING",
		},
		"put custom labels moves them": {
			calls: []call{puts("b", "x", "y"), puts("c", "y")},
			want:  "a:AWSCURRENT b:x c:y",
		},
		"put again, same value, changes nothing": {
			calls: []call{puts("b", pend), puts("c"), putValue("b", "b", cur)},
			want:  "a:AWSPREVIOUS b:AWSPENDING c:AWSCURRENT", current: "c",
		},
		"put again, other value": {
			calls: []call{puts("b", pend), putValue("b", "other", pend)},
			want:  "a:AWSCURRENT b:AWSPENDING",
			err: "ResourceExistsException: You can't use ClientRequestToken " + ver("b") +
				" because that value is already in use for a version of secret {arn}.",
		},
		"promote": {
			calls: []call{moves("x", "", "a"), puts("b", pend, "y"), moves(cur, "a", "b")},
			want:  "a:AWSPREVIOUS,x b:AWSCURRENT,AWSPENDING,y", current: "b",
		},
		"promote takes previous from its holder": {
			calls: []call{puts("b"), puts("c", pend), moves(cur, "b", "c")},
			want:  "a: b:AWSPREVIOUS c:AWSCURRENT,AWSPENDING", current: "c",
		},
		"promote previous: a rollback": {
			calls: []call{puts("b"), moves(cur, "b", "a")},
			want:  "a:AWSCURRENT b:AWSPREVIOUS",
		},
		"promote a version without labels": {
			calls: []call{puts("b"), puts("c"), moves(cur, "c", "a")},
			want:  "a:AWSCURRENT b: c:AWSPREVIOUS",
		},
		"promote to where it is": {
			calls: []call{puts("b"), moves(cur, "b", "b")},
			want:  "a:AWSPREVIOUS b:AWSCURRENT", current: "b",
		},
		"remove pending": {
			calls: []call{puts("b", pend), moves(pend, "b", "")},
			want:  "a:AWSCURRENT b:",
		},
		"remove current": {
			calls: []call{moves(cur, "a", "")},
			want:  "a:AWSCURRENT",
			err: "InvalidParameterException: You can only move staging label AWSCURRENT to a different secret version. " +
				"It can’t be completely removed.",
		},
		"move current without its holder": {
			calls: []call{puts("b", pend), moves(cur, "", "b")},
			want:  "a:AWSCURRENT b:AWSPENDING",
			err: "InvalidParameterException: The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is " +
				"currently attached to version " + ver("a") +
				", so you must explicitly reference that version in RemoveFromVersionId.",
		},
		"move a custom label without its holder": {
			calls: []call{puts("b", "x"), moves("x", "", "a")},
			want:  "a:AWSCURRENT b:x",
			err: "InvalidParameterException: The parameter RemoveFromVersionId can't be empty. Staging label x is " +
				"currently attached to version " + ver("b") +
				", so you must explicitly reference that version in RemoveFromVersionId.",
		},
		"move a custom label": {
			calls: []call{puts("b", "x"), moves("x", "b", "a")},
			want:  "a:AWSCURRENT,x b:",
		},
		"move a label from a version without it": {
			calls: []call{puts("b", pend), puts("c", "x"), moves(pend, "c", "a")},
			want:  "a:AWSCURRENT b:AWSPENDING c:x",
			err:   "InvalidParameterException: Version stage AWSPENDING not found in version " + ver("c"),
		},
		"move a label that nobody has from a version": {
			calls: []call{moves("x", "a", "")},
			want:  "a:AWSCURRENT",
			err:   "InvalidParameterException: Version stage x not found in version " + ver("a"),
		},
		"move to an unknown version": {
			calls: []call{moves(cur, "a", "b")},
			want:  "a:AWSCURRENT",
			err:   "InvalidParameterException: Not a valid version: " + ver("b"),
		},
		"move from nowhere to nowhere": {
			calls: []call{moves(cur, "", "")},
			want:  "a:AWSCURRENT",
			err:   "InvalidParameterException: You must specify MoveToVersionId, RemoveFromVersionId, or both.",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, c := newServer(t)
			arn := create(t, c, "s", "a", "a")
			for i, call := range tt.calls {
				err := call(t.Context(), c)
				if i == len(tt.calls)-1 {
					wantError(t, err, withARN(tt.err, arn))
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if got := versions(t, c, "s"); got != tt.want {
				t.Errorf("versions = %q, want %q", got, tt.want)
			}
			if tt.current == "" {
				tt.current = "a"
			}
			wantValue(t, c, "s", tt.current)
		})
	}
}

func TestFirstVersionIsCurrent(t *testing.T) {
	_, c := newServer(t)
	out, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s")})
	if err != nil || out.VersionId != nil {
		t.Fatalf("CreateSecret without value: version %v, error %v, want neither", out, err)
	}
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
	if err != nil || d.VersionIdsToStages != nil {
		t.Errorf("VersionIdsToStages = %v, %v, want none", d.VersionIdsToStages, err)
	}
	_, err = read(t.Context(), c, "s")
	wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")

	if err := put(t.Context(), c, "s", "a", "one", pend); err != nil {
		t.Fatal(err)
	}
	if got, want := versions(t, c, "s"), "a:AWSCURRENT,AWSPENDING"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
	// Only the first version gets AWSCURRENT unasked.
	if err := put(t.Context(), c, "s", "b", "two", pend); err != nil {
		t.Fatal(err)
	}
	if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestLabelQuota(t *testing.T) {
	const full = "LimitExceededException: The request failed because it would exceed the quota of 20 staging labels on all versions of the secret."
	srv, c := newServer(t)
	create(t, c, "s", "a", "a")
	for i := range 18 { // With AWSCURRENT 19.
		if err := move(t.Context(), c, "s", fmt.Sprintf("x%d", i), "", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), c, "s", "b", "b"); err != nil { // AWSPREVIOUS is the 20th.
		t.Fatal(err)
	}
	wantError(t, put(t.Context(), c, "s", "c", "c", "y"), full)
	wantError(t, move(t.Context(), c, "s", "y", "", "a"), full)
	if _, err := srv.Rotate(t.Context(), "s", "c"); err == nil {
		t.Error("Rotate with 20 labels: no error")
	}
	if err := move(t.Context(), c, "s", "x0", "a", "b"); err != nil {
		t.Errorf("move with 20 labels: %v", err)
	}
	if err := put(t.Context(), c, "s", "d", "d"); err != nil {
		t.Errorf("put with 20 labels, none of them new: %v", err)
	}
	wantValue(t, c, "s", "d")
}

// AWSPENDING goes when the put takes AWSCURRENT away from under it, which makes
// room for AWSPREVIOUS.
func TestLabelQuotaCountsWhatIsLeft(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "a")
	if err := move(t.Context(), c, "s", pend, "", "a"); err != nil {
		t.Fatal(err)
	}
	for i := range 18 {
		if err := move(t.Context(), c, "s", fmt.Sprintf("x%d", i), "", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), c, "s", "b", "b"); err != nil {
		t.Error(err)
	}
}

// A put of AWSCURRENT needs room for AWSPREVIOUS too, if there was none.
func TestLabelQuotaCountsPrevious(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "a")
	for i := range 19 {
		if err := move(t.Context(), c, "s", fmt.Sprintf("x%d", i), "", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), c, "s", "b", "b"); err == nil {
		t.Errorf("put made a 21st label: %s", versions(t, c, "s"))
	}
}
