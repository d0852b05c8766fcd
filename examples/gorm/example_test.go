// Package gorm shows GORM on top of the pool. It needs nothing but the *sql.DB.
package gorm_test

import (
	"fmt"
	"log"

	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

type Order struct {
	ID   int
	Item string
}

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

	// Conn, and no DSN: the logins are the pool's.
	db, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: pool}))
	if err != nil {
		log.Fatal(err)
	}
	if err := db.AutoMigrate(&Order{}); err != nil {
		log.Fatal(err)
	}
	if err := db.Create(&Order{Item: "tea"}).Error; err != nil {
		log.Fatal(err)
	}
	var order Order
	fmt.Println(db.Last(&order).Error, order.Item)
	// Output: <nil> tea
}
