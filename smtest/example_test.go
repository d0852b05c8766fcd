package smtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// A service under test reads its password from a cache. Five lines give it a Secrets
// Manager, a secret, a cache and a rotation.
func Example() {
	ctx := context.Background()
	service := func(c *cache.Cache) {
		secret, err := c.Refresh(ctx, "prod/db")
		fmt.Println(secret.Text(), err)
	}

	srv := smtest.New(nil)
	defer srv.Close()
	id := srv.Put("prod/db", `{"username":"app","password":"one"}`)
	c, err := cache.New(srv.Client(), &cache.Options{MinRefresh: -1})
	service(c)
	next, err2 := srv.Rotate(ctx, "prod/db", `{"username":"app","password":"two"}`)
	service(c)

	c.Close()
	fmt.Println(next != id, err, err2, srv.Count("GetSecretValue"), "reads")
	// Output:
	// {"username":"app","password":"one"} <nil>
	// {"username":"app","password":"two"} <nil>
	// true <nil> <nil> 2 reads
}

// A caller of another account needs three policies: its own, the secret's and the
// key's.
func ExampleServer_AddCaller() {
	const key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	ctx := context.Background()
	srv := smtest.New(nil)
	defer srv.Close()
	admin := srv.Client()
	made, err := admin.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String("shared/db"), SecretString: aws.String("one"), KmsKeyId: aws.String(key),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	app := srv.Client(srv.AddCaller(smtest.Caller{ARN: "arn:aws:sts::111122223333:assumed-role/app/1"}))
	read := func() {
		out, err := app.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: made.ARN})
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			message := api.ErrorMessage()
			fmt.Println(api.ErrorCode()+":", message[max(0, strings.Index(message, "because")):])
			return
		}
		fmt.Println(*out.SecretString)
	}

	read()
	if _, err := admin.PutResourcePolicy(ctx, &secretsmanager.PutResourcePolicyInput{
		SecretId: made.ARN,
		ResourcePolicy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Principal":{"AWS":"arn:aws:iam::111122223333:role/app"},"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}`),
	}); err != nil {
		fmt.Println(err)
	}
	read()
	srv.AddKey(smtest.Key{ARN: key, Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Principal":{"AWS":"arn:aws:iam::111122223333:role/app"},"Action":"kms:Decrypt","Resource":"*"}]}`})
	read()

	// Output:
	// AccessDeniedException: because no resource-based policy allows the secretsmanager:GetSecretValue action
	// AccessDeniedException: Access to KMS is not allowed
	// one
}

func ExampleServer_Inject() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "one")
	srv.Inject(smtest.Fault{SecretID: "prod/db", Times: 1, Err: smtest.AccessDeniedByKMS})

	for range 2 {
		_, err := srv.Client().GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{
			SecretId: aws.String("prod/db"),
		})
		fmt.Println(err == nil)
	}
	for _, c := range srv.Calls() {
		fmt.Printf("%s %s %q\n", c.Operation, c.Stage, c.Code)
	}

	// Output:
	// false
	// true
	// GetSecretValue AWSCURRENT "AccessDeniedException"
	// GetSecretValue AWSCURRENT ""
}
