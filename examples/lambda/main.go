// Command lambda is a function that asks a PostgreSQL database something at each
// invocation, as it is deployed.
//
//	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -o build/bootstrap .
//
// DATABASE_SECRET is the ARN of the secret, and policy.json what the function's
// role needs to read it. See docs/lambda.md.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

// What main makes before lambda.Start lives as long as the execution environment,
// through all of its invocations. Nothing is closed: an environment that is thrown
// away takes its sockets along, and there is no invocation that would know that it
// is the last.
func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
	if err != nil {
		log.Fatal(err)
	}
	// Opened by the first query: nothing is read and nobody dialled for an
	// environment that is never invoked.
	db, err := postgres.OpenDB(c, os.Getenv("DATABASE_SECRET"), nil)
	if err != nil {
		log.Fatal(err)
	}
	// An environment has one invocation at a time, so one connection is all that
	// it can use, and a thousand environments are a thousand connections. Close
	// the rows of one query before the next: that would wait for itself. There is
	// no ConnMaxIdleTime and no pgxpool because both have timers, which do not run
	// in a frozen environment.
	db.SetMaxOpenConns(1)
	lambda.Start((&function{db}).handle)
}

type function struct{ db *sql.DB }

type event struct{ Name string }

type answer struct{ Greeting string }

// handle answers one invocation. ctx ends with the function's timeout, and so does
// whatever waits for a connection.
func (f *function) handle(ctx context.Context, e event) (answer, error) {
	// The connection may have been lost while the environment was frozen. pgx looks
	// before it uses one that was idle for a second, but its clock may have been
	// frozen too. For one round trip Ping finds out; what it finds lost is gone, and
	// the query opens another.
	if err := f.db.PingContext(ctx); err != nil && !errors.Is(err, driver.ErrBadConn) {
		return answer{}, err
	}
	var a answer
	err := f.db.QueryRowContext(ctx, "SELECT 'Hello ' || $1 || ', this is ' || current_database()", e.Name).Scan(&a.Greeting)
	return a, err
}
