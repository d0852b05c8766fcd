package migrating_test

import (
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

func Example_wrapperAfter() {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{DSN: os.Getenv("DATABASE_DSN")})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close() // before the cache
	fmt.Println(db.PingContext(ctx))
	// Output: <nil>
}
