package mssql_test

import (
	"context"
	"log"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/examples/mssql"
)

// It is compiled only: there is no SQL Server to run it with.
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
	db, err := mssql.Open(c, "prod/db", &dbconn.Options{Database: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
}
