package smtest_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestResourcePolicy(t *testing.T) {
	_, c := newServer(t)
	arn := create(t, c, "s", "a", "one")
	get := func() string {
		t.Helper()
		out, err := c.GetResourcePolicy(t.Context(), &sm.GetResourcePolicyInput{SecretId: aws.String("s")})
		if err != nil {
			t.Fatal(err)
		}
		if *out.ARN != arn || *out.Name != "s" {
			t.Errorf("GetResourcePolicy = %s, %s", *out.ARN, *out.Name)
		}
		if out.ResourcePolicy == nil {
			return "absent"
		}
		return *out.ResourcePolicy
	}
	if got := get(); got != "absent" {
		t.Errorf("policy = %s, want none", got)
	}
	// It is returned as it was given, to the space.
	policy := "\n " + to(stranger) + " "
	out, err := c.PutResourcePolicy(t.Context(), &sm.PutResourcePolicyInput{SecretId: aws.String("s"), ResourcePolicy: aws.String(policy)})
	if err != nil || *out.ARN != arn || *out.Name != "s" {
		t.Errorf("PutResourcePolicy = %+v, %v", out, err)
	}
	if got := get(); got != policy {
		t.Errorf("policy = %q, want %q", got, policy)
	}
	for range 2 {
		out, err := c.DeleteResourcePolicy(t.Context(), &sm.DeleteResourcePolicyInput{SecretId: aws.String("s")})
		if err != nil || *out.ARN != arn || *out.Name != "s" {
			t.Errorf("DeleteResourcePolicy = %+v, %v", out, err)
		}
	}
	if got := get(); got != "absent" {
		t.Errorf("policy = %s, want none", got)
	}
}

// The texts are those of the User Guide, the examples too.
func TestResourcePolicyErrors(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	const (
		syntax    = "MalformedPolicyDocumentException: This resource policy contains a syntax error."
		principal = "MalformedPolicyDocumentException: This resource policy contains an unsupported principal."
		service   = "MalformedPolicyDocumentException: This resource policy contains an invalid service principal."
		broad     = "PublicPolicyException: You can't attach a resource-based policy that allows broad access to the secret."
	)
	everybody := func(condition string) string {
		return statement(`'Effect':'Allow','Principal':'*','Action':'secretsmanager:*','Resource':'*'` + condition)
	}
	for _, tt := range []struct {
		policy string
		block  bool
		want   string
	}{
		{"some policy", false, syntax},
		{everybody(``)[1:], false, syntax},
		{strings.Replace(everybody(``), "Allow", "AllowSomething", 1), false, syntax},
		{to("invaliduser"), false, principal},
		{statement(`'Effect':'Allow','Principal':{'AWS':'` + user(owner) + `','Service':['invalidservice']},'Action':'*','Resource':'*'`), false, service},
		{statement(allowAll), false, syntax}, // for nobody
		{everybody(``), false, ""},
		{everybody(``), true, broad},
		{to("*"), true, broad},
		{statement(`'Effect':'Allow','NotPrincipal':{'AWS':'` + owner + `'},'Action':'*','Resource':'*'`), true, broad},
		{statement(`'Effect':'Deny','Principal':'*','Action':'s3:*','Resource':'*'`), true, ""},
		{to(stranger), true, ""},
		{everybody(`,'Condition':{'StringEquals':{'aws:SourceVpc':'vpc-1'}}`), true, ""},
		{everybody(`,'Condition':{'StringEquals':{'aws:PrincipalOrgID':['o-1','o-2']}}`), true, ""},
		{everybody(`,'Condition':{'ArnLike':{'aws:PrincipalArn':'arn:aws:iam::1:role/x'}}`), true, ""},
		{everybody(`,'Condition':{'ArnLike':{'aws:PrincipalArn':'arn:aws:iam::*:role/x'}}`), true, broad},
		{everybody(`,'Condition':{'StringNotEquals':{'aws:SourceVpc':'vpc-1'}}`), true, broad},
		{everybody(`,'Condition':{'StringEqualsIfExists':{'aws:SourceVpc':'vpc-1'}}`), true, broad},
		{everybody(`,'Condition':{'StringEquals':{'secretsmanager:VersionStage':'AWSCURRENT'}}`), true, broad},
		{strings.Repeat(" ", 20481), false, "ValidationException: 1 validation error detected: Value at 'resourcePolicy' failed to satisfy constraint: Member must have length less than or equal to 20480"},
		{"", false, "ValidationException: 1 validation error detected: Value at 'resourcePolicy' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	} {
		_, err := c.PutResourcePolicy(t.Context(), &sm.PutResourcePolicyInput{
			SecretId: aws.String("s"), ResourcePolicy: aws.String(tt.policy), BlockPublicPolicy: aws.Bool(tt.block),
		})
		if got := apiError(err); got != tt.want {
			t.Errorf("policy %.200s\n got %s\nwant %s", tt.policy, got, tt.want)
		}
	}
	if w := raw(srv, "PutResourcePolicy", `{"SecretId":"s"}`); !strings.Contains(w.Body.String(), "Member must not be null") {
		t.Errorf("no policy: %s", w.Body)
	}
}

func TestValidateResourcePolicy(t *testing.T) {
	srv, _ := newServer(t)
	c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner)}))
	create(t, c, "s", "a", "one")
	deny := func(principal, action string) string {
		return statement(`'Effect':'Deny','Principal':{'AWS':'` + principal + `'},'Action':'` + action + `','Resource':'*'`)
	}
	const (
		broad   = "This resource policy grants broad access to your secret."
		lockout = "Your requested changes will not allow you to manage this secret in the future."
	)
	for policy, want := range map[string]string{
		to(stranger):                  "",
		to("*"):                       broad,
		deny("*", "secretsmanager:*"): lockout,
		deny(owner, "secretsmanager:PutResourcePolicy"): lockout,
		deny(user(owner), "*"):                          lockout,
		deny(user(owner)+"2", "*"):                      "",
		deny("*", "secretsmanager:GetSecretValue"):      "",
		`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},
			{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}`: broad + lockout,
	} {
		for _, id := range []*string{nil, aws.String("s")} {
			out, err := c.ValidateResourcePolicy(t.Context(), &sm.ValidateResourcePolicyInput{SecretId: id, ResourcePolicy: aws.String(policy)})
			if err != nil {
				t.Errorf("policy %s: %v", policy, err)
				continue
			}
			var texts []string
			for _, e := range out.ValidationErrors {
				texts = append(texts, *e.ErrorMessage)
			}
			got := strings.Join(texts, "")
			if got != want || out.PolicyValidationPassed != (want == "") || out.ValidationErrors == nil {
				t.Errorf("policy %s\n got %v %s\nwant %s", policy, out.PolicyValidationPassed, got, want)
			}
		}
	}
	_, err := c.ValidateResourcePolicy(t.Context(), &sm.ValidateResourcePolicyInput{SecretId: aws.String("none"), ResourcePolicy: aws.String(to("*"))})
	wantError(t, err, missing)
	_, err = c.ValidateResourcePolicy(t.Context(), &sm.ValidateResourcePolicyInput{ResourcePolicy: aws.String("x")})
	wantError(t, err, "MalformedPolicyDocumentException: This resource policy contains a syntax error.")
}
