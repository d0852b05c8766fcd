package quickstart_test

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

func Example() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := postgres.OpenDB(c, "prod/db", nil) // host, port, database, user and password are the secret's
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	fmt.Println(db.Ping())
	// Output: <nil>
}
