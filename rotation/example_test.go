package rotation_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

// door is a target of one lock. For a PostgreSQL server see rotation/postgres.
type door struct{ code string }

func (d *door) Next(current, password *rotation.Value) (*rotation.Value, error) {
	return current.With("code", password.Text())
}

func (d *door) Check(_, _ *rotation.Value) error { return nil } // there is but one door

func (d *door) Test(_ context.Context, v *rotation.Value) error {
	var key struct{ Code string }
	if err := v.Decode(&key); err != nil {
		return err
	}
	if key.Code != d.code {
		return rotation.Refused(errors.New("the door stays shut"))
	}
	return nil
}

func (d *door) Set(ctx context.Context, c rotation.Change) error {
	if err := d.Test(ctx, c.As); err != nil {
		return err
	}
	var key struct{ Code string }
	if err := c.Pending.Decode(&key); err != nil {
		return err
	}
	d.code = key.Code
	return nil
}

// In AWS the handler goes to lambda.Start(h.Handle). Here smtest is the Secrets
// Manager that calls it.
func ExampleNewHandler() {
	ctx := context.Background()
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("house/door", `{"code":"0000","floor":3}`)
	client := srv.Client()
	front := &door{code: "0000"}

	h := rotation.NewHandler(client, front, nil)

	srv.AddFunction("arn:aws:lambda:us-east-1:123456789012:function:rotate", smtest.Lambda(h.Handle))
	_, err := client.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId:          aws.String("house/door"),
		RotationLambdaARN: aws.String("arn:aws:lambda:us-east-1:123456789012:function:rotate"),
	})
	if err == nil {
		err = srv.Wait(ctx, "house/door")
	}
	if err != nil {
		fmt.Println(err)
		return
	}

	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("house/door")})
	if err != nil {
		fmt.Println(err)
		return
	}
	current := rotation.NewValue(*out.SecretString)
	fmt.Println("a new code:", front.code != "0000")
	fmt.Println("the secret opens the door:", front.Test(ctx, current) == nil)
	fmt.Println("printed, it is", current)

	// Output:
	// a new code: true
	// the secret opens the door: true
	// printed, it is [redacted]
}
