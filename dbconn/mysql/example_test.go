package mysql_test

import (
	"context"
	"fmt"
	"log"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/smtest"
)

func ExampleOpenDB() {
	// In a program: client := secretsmanager.NewFromConfig(cfg). Here it is
	// smtest, with the secret of a user of a server that the tests have started.
	srv := smtest.New(nil)
	defer srv.Close()
	if err := mariadb.CreateUser(context.Background(), "orders", "p4ssword"); err != nil {
		log.Fatal(err)
	}
	srv.Put("prod/orders", fmt.Sprintf(`{"username":"orders","password":"p4ssword","host":%q,"port":%d}`, mariadb.Host(), mariadb.Port()))
	client := srv.Client()

	c, err := cache.New(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := mysql.OpenDB(c, "prod/orders", &mysql.Options{DSN: "/orders?parseTime=true"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }() // before the cache

	var user string
	if err := db.QueryRow("select substring_index(current_user(), '@', 1)").Scan(&user); err != nil {
		log.Fatal(err)
	}
	fmt.Println("logged in as", user)
	// Output: logged in as orders
}
