//go:build ignore

// This is not compiled with the examples: it would have them depend on the
// wrapper. The test has an eye on it all the same.

package main

import (
	"database/sql"
	"log"
	"os"

	_ "github.com/aws/aws-advanced-go-wrapper/aws-secrets-manager"
	_ "github.com/aws/aws-advanced-go-wrapper/pgx-driver"
)

func main() {
	db, err := sql.Open("awssql-pgx", os.Getenv("DATABASE_DSN")+
		" plugins=awsSecretsManager secretsManagerSecretId=prod/db secretsManagerRegion=us-east-1")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	// Output:
}
