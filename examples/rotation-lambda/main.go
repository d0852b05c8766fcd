// Command rotation-lambda is the function that Secrets Manager calls to rotate
// the password of a PostgreSQL user, or of two in turn if there is a superuser's secret,
// as it is deployed: template.yaml has its role, its network and its schedule.
//
//	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -o build/bootstrap .
//	sam deploy --guided
package main

import (
	"context"
	"log"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	var opts postgres.Options
	if superuser := os.Getenv("SUPERUSER_SECRET_ARN"); superuser != "" {
		opts.Strategy, opts.Superuser = postgres.AlternatingUsers, superuser
	}
	h := rotation.NewHandler(secretsmanager.NewFromConfig(cfg), postgres.NewTarget(&opts), &rotation.Options{
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)), // a line for each step; never a value
	})
	// The handler keeps nothing between its calls: a step may run in another
	// environment than the one before. What it returns as an error fails the step,
	// and Secrets Manager repeats the rotation.
	lambda.Start(h.Handle)
}
