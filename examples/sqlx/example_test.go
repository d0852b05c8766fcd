// Package sqlx shows sqlx on top of the pool. It needs nothing but the *sql.DB.
package sqlx_test

import (
	"fmt"
	"log"

	"github.com/jmoiron/sqlx"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

func Example() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	pool, err := postgres.OpenDB(c, "prod/db", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	// The name says which placeholders the driver takes. Nothing is opened by it.
	db := sqlx.NewDb(pool, "pgx")
	var order struct {
		ID   int
		Item string
	}
	err = db.Get(&order, db.Rebind("select 1 as id, ?::text as item"), "tea")
	fmt.Println(err, order)
	// Output: <nil> {1 tea}
}
