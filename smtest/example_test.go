package smtest_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func Example() {
	ctx := context.Background()
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"app","password":"one"}`)

	read := func() {
		out, err := srv.Client().GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(*out.SecretString, out.VersionStages)
	}

	read()
	if _, err := srv.Rotate(ctx, "prod/db", `{"username":"app","password":"two"}`); err != nil {
		fmt.Println(err)
	}
	read()
	fmt.Println(srv.Count("GetSecretValue"), "reads")

	// Output:
	// {"username":"app","password":"one"} [AWSCURRENT]
	// {"username":"app","password":"two"} [AWSCURRENT]
	// 2 reads
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
