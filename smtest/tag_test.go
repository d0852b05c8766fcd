package smtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// describeTags returns the tags as "k=v k=v", or "absent".
func describeTags(t *testing.T, c *sm.Client, id string) string {
	t.Helper()
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(id)})
	if err != nil {
		t.Fatal(err)
	}
	if d.Tags == nil {
		return "absent"
	}
	var out []string
	for _, tag := range d.Tags {
		out = append(out, *tag.Key+"="+*tag.Value)
	}
	return strings.Join(out, " ")
}

// What LocalStack's test_secret_tags has recorded on AWS.
func TestTags(t *testing.T) {
	_, c := newServer(t)
	create(t, c, "s", "a", "one")
	if got := describeTags(t, c, "s"); got != "absent" {
		t.Errorf("tags = %q, want none", got)
	}
	for _, step := range []struct {
		add    []types.Tag
		remove []string
		want   string
	}{
		{add: tags("tag1", "value1"), want: "tag1=value1"},
		{add: tags("tag2", "value2"), want: "tag1=value1 tag2=value2"},
		{add: tags("tag1", "other", "tag3", ""), want: "tag1=other tag2=value2 tag3="},
		{add: tags(), want: "tag1=other tag2=value2 tag3="},
		{remove: []string{"tag1", "none"}, want: "tag2=value2 tag3="},
		{remove: []string{"tag2", "tag3"}, want: ""}, // an empty list, not an absent one
		{remove: []string{"tag2"}, want: ""},
		{add: tags("TAG1", "x"), want: "TAG1=x"},
	} {
		var err error
		if step.remove != nil {
			_, err = c.UntagResource(t.Context(), &sm.UntagResourceInput{SecretId: aws.String("s"), TagKeys: step.remove})
		} else {
			in := &sm.TagResourceInput{SecretId: aws.String("s"), Tags: step.add}
			if in.Tags == nil {
				in.Tags = []types.Tag{}
			}
			_, err = c.TagResource(t.Context(), in)
		}
		if got := describeTags(t, c, "s"); err != nil || got != step.want {
			t.Errorf("tags = %q, %v, want %q", got, err, step.want)
		}
	}
}

func TestTagErrors(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	tagged := func(tags []types.Tag) error {
		_, err := c.TagResource(t.Context(), &sm.TagResourceInput{SecretId: aws.String("s"), Tags: tags})
		return err
	}
	many := func(from, n int) []types.Tag {
		var kv []string
		for i := range n {
			kv = append(kv, fmt.Sprint("k", from+i), "v")
		}
		return tags(kv...)
	}
	const length = "ValidationException: 1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length "
	const full = "InvalidParameterException: A secret can have at most 50 tags."
	wantError(t, tagged(tags(strings.Repeat("k", 129), "")), length+"less than or equal to 128")
	wantError(t, tagged(tags("", "")), length+"greater than or equal to 1")
	wantError(t, tagged(tags("k", strings.Repeat("v", 257))), length+"less than or equal to 256")
	wantError(t, tagged(tags("k", "a", "k", "b")), "InvalidParameterException: The request has the tag key k more than once.")
	wantError(t, tagged(tags("aws:x", "a")), "InvalidParameterException: Tag keys that begin with aws: are reserved for AWS.")
	wantError(t, tagged(many(0, 51)), full)
	if err := tagged(many(0, 50)); err != nil {
		t.Error(err)
	}
	wantError(t, tagged(many(50, 1)), full)
	if err := tagged(many(0, 1)); err != nil {
		t.Errorf("a new value for one of 50 tags: %v", err)
	}
	_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new"), Tags: many(0, 51)})
	wantError(t, err, full)
	_, err = c.UntagResource(t.Context(), &sm.UntagResourceInput{SecretId: aws.String("s"), TagKeys: []string{"aws:x"}})
	wantError(t, err, "InvalidParameterException: Tag keys that begin with aws: are reserved for AWS.")

	for _, operation := range []string{"TagResource", "UntagResource"} {
		if w := raw(srv, operation, `{"SecretId":"s"}`); !strings.Contains(w.Body.String(), "Member must not be null") {
			t.Errorf("%s of nothing: %s", operation, w.Body)
		}
	}
	if w := raw(srv, "TagResource", `{"SecretId":"s","Tags":[]}`); w.Code != 200 || w.Body.String() != "{}" {
		t.Errorf("TagResource = %d %s", w.Code, w.Body)
	}
}
