package mysql_test

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
	"github.com/keyturn/keyturn/smtest"
)

// A rotation function, called by Secrets Manager. In Lambda it is lambda.Start(h.Handle),
// and the client secretsmanager.NewFromConfig(cfg); here smtest calls it, and the user is
// one of a MariaDB server that the tests have started.
func ExampleNewTarget() {
	ctx := context.Background()
	srv := smtest.New(nil)
	defer srv.Close()
	if err := mariadb.CreateUser(ctx, "orders", "one"); err != nil {
		log.Fatal(err)
	}
	srv.Put("prod/orders", fmt.Sprintf(
		`{"engine":"mariadb","username":"orders","password":"one","host":%q,"port":%d,"dbname":"orders"}`,
		mariadb.Host(), mariadb.Port(),
	))

	target := mysql.NewTarget(&mysql.Options{Strategy: mysql.SingleUser})
	h := rotation.NewHandler(srv.Client(), target, nil)

	const function = "arn:aws:lambda:us-east-1:123456789012:function:rotate"
	srv.AddFunction(function, smtest.Lambda(h.Handle))
	if _, err := srv.Client().RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId: aws.String("prod/orders"), RotationLambdaARN: aws.String(function),
	}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("rotated:", srv.Wait(ctx, "prod/orders"))

	out, err := srv.Client().GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/orders")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("AWSCURRENT logs in:", target.Test(ctx, rotation.NewValue(*out.SecretString)))
	// Output:
	// rotated: <nil>
	// AWSCURRENT logs in: <nil>
}
