package smtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

const (
	owner    = "123456789012" // the account of the secrets
	stranger = "111122223333" // another one

	getValue = "secretsmanager:GetSecretValue"
	nothing  = `{"Version":"2012-10-17","Statement":[]}`
	keyARN   = "arn:aws:kms:us-east-1:" + owner + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func user(account string) string { return "arn:aws:iam::" + account + ":user/app" }
func role(account string) string { return "arn:aws:iam::" + account + ":role/path/app" }
func session(account string) string {
	return "arn:aws:sts::" + account + ":assumed-role/app/session"
}

// statement is a policy of one statement. Single quotes stand for double ones.
func statement(text string) string {
	return `{"Version":"2012-10-17","Statement":{` + strings.ReplaceAll(text, "'", `"`) + `}}`
}

const allowAll = `'Effect':'Allow','Action':'*','Resource':'*'`

// to is a statement of a resource policy that allows reading.
func to(principal string) string {
	return statement(`'Effect':'Allow','Principal':{'AWS':'` + principal + `'},'Action':'` + getValue + `','Resource':'*'`)
}

func setPolicy(t *testing.T, c *sm.Client, id, policy string) {
	t.Helper()
	_, err := c.PutResourcePolicy(t.Context(), &sm.PutResourcePolicyInput{SecretId: aws.String(id), ResourcePolicy: aws.String(policy)})
	if err != nil {
		t.Fatal(err)
	}
}

// createWithKey makes a secret with the value one.
func createWithKey(t *testing.T, c *sm.Client, name, key string) (arn string) {
	t.Helper()
	out, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{
		Name: aws.String(name), SecretString: aws.String("one"), KmsKeyId: aws.String(key),
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.ARN
}

// A read as the policies of the caller, the secret and the key together decide it.
func TestAccess(t *testing.T) {
	const (
		noIdentity = "because no identity-based policy allows the secretsmanager:GetSecretValue action"
		noResource = "because no resource-based policy allows the secretsmanager:GetSecretValue action"
		identityNo = "with an explicit deny in an identity-based policy"
		resourceNo = "with an explicit deny in a resource-based policy"
		noKMS      = "AccessDeniedException: Access to KMS is not allowed"
	)
	reads := statement(`'Effect':'Allow','Action':'` + getValue + `','Resource':'*'`)
	denies := statement(`'Effect':'Deny','Action':'` + getValue + `','Resource':'*'`)
	useKey := func(principal string) string {
		return statement(`'Effect':'Allow','Principal':{'AWS':'` + principal + `'},'Action':['kms:Decrypt','kms:GenerateDataKey'],'Resource':'*'`)
	}
	for name, tt := range map[string]struct {
		caller   string // its ARN
		identity []string
		resource string
		key      string // the key's policy; "-" for aws/secretsmanager
		want     string // empty: allowed; else the error or, if it is a denial, its end
	}{
		"administrator":                      {caller: user(owner), key: "-"},
		"same account, nothing":              {caller: user(owner), identity: []string{nothing}, key: "-", want: noIdentity},
		"same account, identity":             {caller: user(owner), identity: []string{reads}, key: "-"},
		"same account, one of two":           {caller: user(owner), identity: []string{nothing, reads}, key: "-"},
		"same account, resource alone":       {caller: user(owner), identity: []string{nothing}, resource: to(user(owner)), key: "-"},
		"same account, resource everybody":   {caller: user(owner), identity: []string{nothing}, resource: to("*"), key: "-"},
		"same account, resource the account": {caller: user(owner), identity: []string{nothing}, resource: to(owner), key: "-", want: noIdentity},
		"same account, resource the root":    {caller: user(owner), identity: []string{nothing}, resource: to("arn:aws:iam::" + owner + ":root"), key: "-", want: noIdentity},
		"same account, the root itself":      {caller: "arn:aws:iam::" + owner + ":root", identity: []string{nothing}, resource: to(owner), key: "-"},
		"same account, resource another":     {caller: user(owner), identity: []string{nothing}, resource: to(user(owner) + "2"), key: "-", want: noIdentity},
		"same account, identity denies":      {caller: user(owner), identity: []string{reads, denies}, resource: to(user(owner)), key: "-", want: identityNo},
		"same account, resource denies": {
			caller: user(owner), resource: statement(`'Effect':'Deny','Principal':'*','Action':'` + getValue + `','Resource':'*'`), key: "-", want: resourceNo,
		},
		"a role by its session": {caller: session(owner), identity: []string{nothing}, resource: to(session(owner)), key: "-"},
		"a role by its own ARN": {caller: session(owner), identity: []string{nothing}, resource: to(role(owner)), key: "-"},
		"a role of another name": {
			caller: session(owner), identity: []string{nothing}, resource: to("arn:aws:iam::" + owner + ":role/application"), key: "-", want: noIdentity,
		},
		"a role of that name elsewhere": {caller: session(owner), identity: []string{nothing}, resource: to(role(stranger)), key: "-", want: noIdentity},

		"another account, nothing":        {caller: user(stranger), want: noResource},
		"another account, identity":       {caller: user(stranger), identity: []string{reads}, want: noResource},
		"another account, resource alone": {caller: user(stranger), identity: []string{nothing}, resource: to(user(stranger)), want: noIdentity},
		"another account, both, no key": {
			caller: user(stranger), resource: to(user(stranger)), want: noKMS,
		},
		"another account, all three":       {caller: user(stranger), resource: to(user(stranger)), key: useKey(user(stranger))},
		"another account, all by account":  {caller: session(stranger), resource: to(stranger), key: useKey(stranger)},
		"another account, another's":       {caller: user(stranger), resource: to("444455556666"), key: useKey(stranger), want: noResource},
		"another account, identity denies": {caller: user(stranger), identity: []string{statement(allowAll), denies}, resource: to(stranger), key: useKey(stranger), want: identityNo},
		"another account, no kms action": {
			caller: user(stranger), identity: []string{reads}, resource: to(stranger), key: useKey(user(stranger)), want: noKMS,
		},
		"another account, the kms action": {
			caller:   user(stranger),
			identity: []string{reads, statement(`'Effect':'Allow','Action':'kms:Decrypt','Resource':'` + keyARN + `'`)},
			resource: to(stranger), key: useKey(user(stranger)),
		},
		"another account, aws/secretsmanager": {
			caller: user(stranger), resource: to(user(stranger)), key: "-",
			want: "InvalidRequestException: You can't access a secret from a different AWS account if you encrypt the secret with the default KMS service key.",
		},

		"own key":                      {caller: user(owner)},
		"own key, kms action":          {caller: user(owner), identity: []string{statement(allowAll)}},
		"own key, no kms action":       {caller: user(owner), identity: []string{reads}, want: noKMS},
		"own key, its policy allows":   {caller: user(owner), identity: []string{reads}, key: useKey(user(owner))},
		"own key, through the account": {caller: user(owner), identity: []string{statement(allowAll)}, key: useKey(owner)},
		"own key, its policy does not": {caller: user(owner), key: useKey(stranger), want: noKMS},
		"own key, its policy denies": {
			caller: user(owner), key: statement(`'Effect':'Deny','Principal':'*','Action':'kms:*','Resource':'*'`), want: noKMS,
		},
		"own key, identity denies": {
			caller:   user(owner),
			identity: []string{statement(allowAll), statement(`'Effect':'Deny','Action':'kms:Decrypt','Resource':'*'`)},
			key:      useKey(user(owner)), want: noKMS,
		},
		"own key, via the service": {
			caller: user(owner), identity: []string{reads},
			key: statement(`'Effect':'Allow','Principal':'*','Action':'kms:*','Resource':'*','Condition':{'StringEquals':{'kms:ViaService':'secretsmanager.us-east-1.amazonaws.com','kms:CallerAccount':'` + owner + `'}}`),
		},
		"own key, via another service": {
			caller: user(owner), identity: []string{reads},
			key:  statement(`'Effect':'Allow','Principal':'*','Action':'kms:*','Resource':'*','Condition':{'StringEquals':{'kms:ViaService':'rds.us-east-1.amazonaws.com'}}`),
			want: noKMS,
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv, admin := newServer(t)
			id := keyARN
			if tt.key == "-" {
				id = "alias/aws/secretsmanager"
			}
			arn := createWithKey(t, admin, "s", id)
			if tt.resource != "" {
				setPolicy(t, admin, "s", tt.resource)
			}
			if id == keyARN && tt.key != "" {
				srv.AddKey(smtest.Key{ARN: keyARN, Policy: tt.key})
			}
			c := srv.Client(srv.AddCaller(smtest.Caller{ARN: tt.caller, Policies: tt.identity}))
			_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String(arn)})
			want := tt.want
			if want != "" && !strings.Contains(want, ": ") {
				want = fmt.Sprintf("AccessDeniedException: User: %s is not authorized to perform: %s on resource: %s %s", tt.caller, getValue, arn, want)
			}
			wantError(t, err, want)
		})
	}
}

// What a statement of a caller's identity policy is about.
func TestStatements(t *testing.T) {
	const arn = "arn:aws:secretsmanager:us-east-1:" + owner + ":secret:"
	on := func(action, resource string) string {
		return `'Effect':'Allow','Action':` + action + `,'Resource':` + resource
	}
	when := func(condition string) string { return on(`'*'`, `'*'`) + `,'Condition':{` + condition + `}` }
	for text, allowed := range map[string]bool{
		on(`'secretsmanager:GetSecretValue'`, `'*'`):                             true,
		on(`'SecretsManager:getsecretvalue'`, `'*'`):                             true,
		on(`'secretsmanager:Get*'`, `'*'`):                                       true,
		on(`'secretsmanager:*Secret*'`, `'*'`):                                   true,
		on(`'secretsmanager:*Secrets*e'`, `'*'`):                                 false,
		on(`'secretsmanager:GetSecretValue**'`, `'*'`):                           true,
		on(`'secretsmanager:?etSecretValue'`, `'*'`):                             true,
		on(`['kms:Decrypt','secretsmanager:*']`, `'*'`):                          true,
		on(`'secretsmanager:GetSecret'`, `'*'`):                                  false,
		on(`'s3:*'`, `'*'`):                                                      false,
		`'Effect':'Allow','NotAction':'s3:*','Resource':'*'`:                     true,
		`'Effect':'Allow','NotAction':'secretsmanager:*','Resource':'*'`:         false,
		on(`'*'`, `'`+arn+`prod/*'`):                                             true,
		on(`'*'`, `'`+arn+`prod/db-??????'`):                                     true,
		on(`'*'`, `['`+arn+`x','`+arn+`prod/db-*']`):                             true,
		on(`'*'`, `'`+arn+`prod/d-??????'`):                                      false,
		on(`'*'`, `'`+arn+`prod/db'`):                                            false,
		`'Effect':'Allow','Action':'*','NotResource':'` + arn + `test/*'`:        true,
		`'Effect':'Allow','Action':'*','NotResource':'` + arn + `prod/*'`:        false,
		when(`'StringEquals':{'secretsmanager:ResourceTag/env':'prod'}`):         true,
		when(`'StringEquals':{'aws:ResourceTag/env':['test','prod']}`):           true,
		when(`'StringEquals':{'aws:ResourceTag/env':'PROD'}`):                    false,
		when(`'StringEqualsIgnoreCase':{'AWS:resourcetag/env':'PROD'}`):          true,
		when(`'StringNotEquals':{'aws:ResourceTag/env':'test'}`):                 true,
		when(`'StringNotEquals':{'aws:ResourceTag/env':['test','prod']}`):        false,
		when(`'StringNotEquals':{'aws:ResourceTag/none':'x'}`):                   true,
		when(`'StringLike':{'aws:ResourceTag/env':'p*d'}`):                       true,
		when(`'StringNotLike':{'aws:ResourceTag/env':'p*d'}`):                    false,
		when(`'StringEquals':{'aws:ResourceTag/none':'x'}`):                      false,
		when(`'StringEqualsIfExists':{'aws:ResourceTag/none':'x'}`):              true,
		when(`'StringEqualsIfExists':{'aws:ResourceTag/env':'x'}`):               false,
		when(`'ForAllValues:StringEquals':{'aws:ResourceTag/none':'x'}`):         true,
		when(`'ForAllValues:StringEquals':{'aws:ResourceTag/env':'prod'}`):       true,
		when(`'ForAllValues:StringEquals':{'aws:ResourceTag/env':'x'}`):          false,
		when(`'ForAnyValue:StringEquals':{'aws:ResourceTag/none':'x'}`):          false,
		when(`'ForAnyValue:StringNotEquals':{'aws:ResourceTag/none':'x'}`):       false,
		when(`'Null':{'aws:ResourceTag/none':'true'}`):                           true,
		when(`'Null':{'aws:ResourceTag/env':true}`):                              false,
		when(`'Null':{'aws:ResourceTag/env':'false'}`):                           true,
		when(`'Bool':{'aws:SecureTransport':true}`):                              true,
		when(`'Bool':{'aws:SecureTransport':'false'}`):                           false,
		when(`'ArnLike':{'aws:PrincipalArn':'arn:aws:iam::*:role/app'}`):         true,
		when(`'ArnNotEquals':{'aws:PrincipalArn':'arn:aws:iam::*:role/app'}`):    false,
		when(`'StringEquals':{'aws:PrincipalAccount':'` + owner + `'}`):          true,
		when(`'StringEquals':{'aws:ResourceAccount':'` + owner + `'}`):           true,
		when(`'StringEquals':{'aws:RequestedRegion':'us-east-1'}`):               true,
		when(`'ArnLike':{'secretsmanager:SecretId':'` + arn + `prod/*'}`):        true,
		when(`'StringEquals':{'aws:RequestedRegion':'us-east-1','aws:x':'y'}`):   false,
		when(`'IpAddress':{'aws:SourceIp':'10.0.0.0/8'}`):                        false,
		when(`'NotIpAddress':{'aws:SourceIp':'10.0.0.0/8'}`):                     true,
		when(`'NumericLessThan':{'aws:MultiFactorAuthAge':3600}`):                false,
		when(`'DateGreaterThan':{'aws:CurrentTime':'2020-01-01T00:00:00Z'}`):     false,
		when(`'StringEquals':{'secretsmanager:VersionStage':'AWSCURRENT'}`):      false, // unsaid
		when(`'StringEquals':{'secretsmanager:SecretPrimaryRegion':'x'}`):        false,
		when(`'Null':{'secretsmanager:SecretPrimaryRegion':true}`):               true,
		when(`'Bool':{'aws:PrincipalIsAWSService':false}`):                       false,
		when(`'BoolIfExists':{'aws:PrincipalIsAWSService':false}`):               true,
		when(`'StringEquals':{'aws:PrincipalAccount':'${aws:ResourceAccount}'}`): false,
	} {
		srv, admin := newServer(t)
		_, err := admin.CreateSecret(t.Context(), &sm.CreateSecretInput{
			Name: aws.String("prod/db"), SecretString: aws.String("one"), Tags: tags("env", "prod"),
		})
		if err != nil {
			t.Fatal(err)
		}
		c := srv.Client(srv.AddCaller(smtest.Caller{ARN: session(owner), Policies: []string{statement(text)}}))
		if _, err := read(t.Context(), c, "prod/db"); (err == nil) != allowed {
			t.Errorf("%s\n: %v, want allowed: %v", text, err, allowed)
		}
	}
}

// A condition on the label sees what the request says, not what it leaves unsaid:
// aws/aws-cli#5031, boto/boto3#2957.
func TestVersionStageCondition(t *testing.T) {
	for operator, values := range map[string]string{
		"StringEquals":             `'AWSCURRENT'`,
		"ForAnyValue:StringEquals": `['AWSPREVIOUS','AWSCURRENT']`,
		"StringLike":               `'AWSC*'`,
	} {
		srv, admin := newServer(t)
		create(t, admin, "s", "a", "one")
		if err := put(t.Context(), admin, "s", "b", "two", pend); err != nil {
			t.Fatal(err)
		}
		c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{
			statement(allowAll + `,'Condition':{'` + operator + `':{'secretsmanager:VersionStage':` + values + `}}`),
		}}))
		for _, tt := range []struct {
			version, stage *string
			allowed        bool
		}{
			{nil, aws.String(cur), true},
			{aws.String(ver("a")), aws.String(cur), true},
			{nil, aws.String(pend), false},
			{nil, nil, false},
			{aws.String(ver("a")), nil, false},
		} {
			_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionId: tt.version, VersionStage: tt.stage})
			if (err == nil) != tt.allowed {
				t.Errorf("%s: version %v, stage %v: %v", operator, aws.ToString(tt.version), aws.ToString(tt.stage), err)
			}
		}
	}
}

// How many of the labels that a request names must match.
func TestQuantities(t *testing.T) {
	for condition, allowed := range map[string]bool{
		`'ForAllValues:StringEquals':{'secretsmanager:VersionStage':'x'}`:             false,
		`'ForAllValues:StringEquals':{'secretsmanager:VersionStage':['y','x','z']}`:   true,
		`'ForAllValues:StringNotEquals':{'secretsmanager:VersionStage':'AWSCURRENT'}`: true,
		`'ForAllValues:StringNotEquals':{'secretsmanager:VersionStage':'x'}`:          false,
		`'ForAnyValue:StringEquals':{'secretsmanager:VersionStage':'x'}`:              true,
		`'ForAnyValue:StringNotEquals':{'secretsmanager:VersionStage':'x'}`:           true,
		`'ForAnyValue:StringEquals':{'secretsmanager:VersionStage':'AWSCURRENT'}`:     false,
	} {
		srv, admin := newServer(t)
		create(t, admin, "s", "a", "one")
		policy := statement(allowAll + `,'Condition':{` + condition + `}`)
		c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{policy}}))
		if err := put(t.Context(), c, "s", "b", "two", "x", "y"); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed: %v", condition, err, allowed)
		}
	}
}

// A name that no secret has: a caller whose policies do not allow it learns nothing.
func TestAccessToNothing(t *testing.T) {
	srv, _ := newServer(t)
	for policy, want := range map[string]string{
		statement(allowAll): missing,
		statement(`'Effect':'Allow','Action':'*','Resource':'arn:aws:secretsmanager:*:*:secret:prod/*'`): "AccessDeniedException: User: " + user(owner) +
			" is not authorized to perform: " + getValue + " on resource: prod/db because no identity-based policy allows the " + getValue + " action",
		statement(`'Effect':'Deny','Action':'*','Resource':'*'`): "AccessDeniedException: User: " + user(owner) +
			" is not authorized to perform: " + getValue + " on resource: prod/db with an explicit deny in an identity-based policy",
	} {
		c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{policy}}))
		_, err := read(t.Context(), c, "prod/db")
		wantError(t, err, want)
	}
}

// Operations that are about no one secret, and those that take more than one action.
func TestAccessToOperations(t *testing.T) {
	allowing := func(actions string) string {
		return statement(`'Effect':'Allow','Action':` + actions + `,'Resource':'*'`)
	}
	denied := func(action, resource string) string {
		return "AccessDeniedException: User: " + user(owner) + " is not authorized to perform: secretsmanager:" + action + " on resource: " + resource +
			" because no identity-based policy allows the secretsmanager:" + action + " action"
	}
	for name, tt := range map[string]struct {
		policy string
		call   func(c *sm.Client) error
		want   string
	}{
		"list": {allowing(`'secretsmanager:ListSecrets'`), func(c *sm.Client) error {
			_, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
			return err
		}, ""},
		"no list": {allowing(`'secretsmanager:ListSecretVersionIds'`), func(c *sm.Client) error {
			_, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
			return err
		}, denied("ListSecrets", "*")},
		"password": {nothing, func(c *sm.Client) error {
			_, err := c.GetRandomPassword(t.Context(), &sm.GetRandomPasswordInput{})
			return err
		}, denied("GetRandomPassword", "*")},
		"validate": {nothing, func(c *sm.Client) error {
			_, err := c.ValidateResourcePolicy(t.Context(), &sm.ValidateResourcePolicyInput{ResourcePolicy: aws.String(to(owner))})
			return err
		}, denied("ValidateResourcePolicy", "*")},
		"batch": {allowing(`['secretsmanager:BatchGetSecretValue','secretsmanager:GetSecretValue']`), func(c *sm.Client) error {
			_, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"s"}})
			return err
		}, ""},
		"no batch": {allowing(`'secretsmanager:GetSecretValue'`), func(c *sm.Client) error {
			_, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"s"}})
			return err
		}, denied("BatchGetSecretValue", "*")},
		"batch by filters": {allowing(`['secretsmanager:BatchGetSecretValue','secretsmanager:GetSecretValue']`), func(c *sm.Client) error {
			_, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{Filters: filters("name", "s")})
			return err
		}, denied("ListSecrets", "*")},
		"create": {statement(`'Effect':'Allow','Action':'*','Resource':'arn:aws:secretsmanager:us-east-1:` + owner + `:secret:new-??????'`), func(c *sm.Client) error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new")})
			return err
		}, ""},
		"create another": {statement(`'Effect':'Allow','Action':'*','Resource':'arn:aws:secretsmanager:us-east-1:` + owner + `:secret:new-??????'`), func(c *sm.Client) error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("other")})
			return err
		}, denied("CreateSecret", "other")},
		"create with tags": {allowing(`'secretsmanager:CreateSecret'`), func(c *sm.Client) error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new"), Tags: tags("a", "b")})
			return err
		}, denied("TagResource", "new")},
		"create with replicas": {allowing(`['secretsmanager:CreateSecret','secretsmanager:TagResource']`), func(c *sm.Client) error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("new"), AddReplicaRegions: regions("eu-west-1")})
			return err
		}, denied("ReplicateSecretToRegions", "new")},
	} {
		srv, admin := newServer(t)
		create(t, admin, "s", "a", "one")
		c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{tt.policy}}))
		if got := apiError(tt.call(c)); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", name, got, tt.want)
		}
	}
	// In a batch each secret is refused on its own.
	srv, admin := newServer(t)
	create(t, admin, "s", "a", "one")
	create(t, admin, "r", "a", "two")
	c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{
		statement(`'Effect':'Allow','Action':'secretsmanager:BatchGetSecretValue','Resource':'*'`),
		statement(`'Effect':'Allow','Action':'` + getValue + `','Resource':'*:secret:s-*'`),
	}}))
	out, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"s", "r"}})
	if err != nil || len(out.SecretValues) != 1 || len(out.Errors) != 1 || *out.Errors[0].ErrorCode != "AccessDeniedException" ||
		*out.SecretValues[0].SecretString != "one" {
		t.Errorf("batch = %+v, %v", out, err)
	}
}

// What another account may do besides reading, as recorded on AWS by LocalStack's
// test_cross_account_access.
func TestAnotherAccountsOperations(t *testing.T) {
	srv, admin := newServer(t)
	c := srv.Client(srv.AddCaller(smtest.Caller{ARN: user(stranger)}), func(o *sm.Options) { o.RetryMaxAttempts = 1 })
	arn := create(t, admin, "s", "a", "one")
	all := statement(`'Effect':'Allow','Principal':{'AWS':'` + stranger + `'},'Action':'secretsmanager:*','Resource':'*'`)
	setPolicy(t, admin, "s", all)
	ctx, id := t.Context(), aws.String(arn)
	const byDefaultKey = "InvalidRequestException: You can't access a secret from a different AWS account if you encrypt the secret with the default KMS service key."

	if d, err := c.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: id}); err != nil || *d.ARN != arn {
		t.Errorf("DescribeSecret = %v, %v", d, err)
	}
	wantError(t, put(ctx, c, arn, "b", "two"), byDefaultKey)
	setPolicy(t, c, arn, all)
	if out, err := c.ListSecretVersionIds(ctx, &sm.ListSecretVersionIdsInput{SecretId: id}); err != nil || len(out.Versions) != 1 {
		t.Errorf("ListSecretVersionIds = %v, %v", out, err)
	}
	if out, err := c.ListSecrets(ctx, &sm.ListSecretsInput{}); err != nil || len(out.SecretList) != 0 {
		t.Errorf("ListSecrets = %v, %v, want none of another account", out, err)
	}
	if _, err := c.TagResource(ctx, &sm.TagResourceInput{SecretId: id, Tags: tags("k", "v")}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: id}); err != nil {
		t.Error(err)
	}
	if _, err := c.RestoreSecret(ctx, &sm.RestoreSecretInput{SecretId: id}); err != nil {
		t.Error(err)
	}
	// Only the full ARN leads into another account, and only in its Region.
	for _, other := range []string{"s", arn[:len(arn)-7], strings.Replace(arn, "us-east-1", "eu-west-1", 1)} {
		_, err := read(ctx, c, other)
		wantError(t, err, missing)
	}
	_, err := read(ctx, srv.Client(srv.AddCaller(smtest.Caller{ARN: user(stranger)}), inRegion("eu-west-1")), arn)
	wantError(t, err, missing)
}

// Faults name who calls.
func TestFaultNamesTheCaller(t *testing.T) {
	srv, admin := newServer(t)
	arn := create(t, admin, "s", "a", "one")
	srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
	_, err := read(t.Context(), srv.Client(srv.AddCaller(smtest.Caller{ARN: user(owner)})), "s")
	wantError(t, err, "AccessDeniedException: User: "+user(owner)+" is not authorized to perform: "+getValue+" on resource: "+arn+
		" because no identity-based policy allows the "+getValue+" action")
}

// A policy that is not one is found when it is set up.
func TestBadPolicies(t *testing.T) {
	srv, _ := newServer(t)
	for _, policy := range []string{
		``, `x`, `[]`, `{}`, nothing + `{}`,
		`{"Version":"2012-10-18","Statement":[]}`,
		`{"Version":"2012-10-17","Statements":[]}`,
		statement(`'Effect':'AllowSomething','Action':'*','Resource':'*'`),
		statement(`'Effect':'Allow','Resource':'*'`),
		statement(`'Effect':'Allow','Action':'*'`),
		statement(`'Effect':'Allow','Action':[],'Resource':'*'`),
		statement(`'Effect':'Allow','Action':1,'Resource':'*'`),
		statement(`'Effect':'Allow','Action':'read','Resource':'*'`),
		statement(`'Effect':'Allow','Action':'*','NotAction':'*','Resource':'*'`),
		statement(`'Effect':'Allow','Action':'*','Resource':'*','NotResource':'*'`),
		statement(allowAll + `,'Condition':{'StringEqual':{'a':'b'}}`),
		statement(allowAll + `,'Condition':{'StringEquals':{'a':[]}}`),
		statement(allowAll + `,'Condition':{'StringEquals':'a'}`),
		statement(allowAll + `,'Principal':'*'`), // is for resource policies
		statement(allowAll + `,'principal':'*'`),
	} {
		if got := panics(func() { srv.AddCaller(smtest.Caller{ARN: user(owner), Policies: []string{policy}}) }); got != "smtest: add caller: the policy contains a syntax error." {
			t.Errorf("policy %s\n: panic = %v", policy, got)
		}
	}
	const service = "smtest: add key: the policy contains an invalid service principal."
	const principal = "smtest: add key: the policy contains an unsupported principal."
	const syntax = "smtest: add key: the policy contains a syntax error."
	for who, want := range map[string]string{
		`'Principal':'*'`:            "",
		`'Principal':{'AWS':'*'}`:    "",
		`'NotPrincipal':{'AWS':'*'}`: "",
		`'Principal':{'AWS':'` + owner + `','Service':'lambda.amazonaws.com','Federated':'cognito-identity.amazonaws.com'}`: "",
		`'Principal':{'AWS':['AIDAEXAMPLE0000000000','arn:aws:sts::` + owner + `:federated-user/x']}`:                       "",
		`'Principal':'` + owner + `'`:                 principal,
		`'Principal':{'AWS':'nobody'}`:                principal,
		`'Principal':{'AWS':'arn:aws:iam::1:user/x'}`: principal,
		`'Principal':{'CanonicalUser':'x'}`:           principal,
		`'Principal':{'Service':'lambda'}`:            service,
		`'Principal':{}`:                              syntax,
		`'Principal':{'AWS':1}`:                       syntax,
		`'Principal':1`:                               syntax,
		`'Principal':'*','NotPrincipal':{'AWS':'*'}`:  syntax,
		`'Sid':'x'`: syntax,
	} {
		var wanted any
		if want != "" {
			wanted = want
		}
		if got := panics(func() { srv.AddKey(smtest.Key{ARN: keyARN, Policy: statement(allowAll + "," + who)}) }); got != wanted {
			t.Errorf("%s\n: panic = %v, want %v", who, got, wanted)
		}
	}
}
