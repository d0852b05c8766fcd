package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	driver "github.com/go-sql-driver/mysql"

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

// A *mysql.Config says what a DSN cannot: here the attributes of the
// connection. What of it the secret holds is left out.
func ExampleNewConnector() {
	srv := smtest.New(nil)
	defer srv.Close()
	if err := mysqld.CreateUser(context.Background(), "billing", "p4ssword"); err != nil {
		log.Fatal(err)
	}
	srv.Put("prod/billing", fmt.Sprintf(`{"username":"billing","password":"p4ssword","host":%q,"port":%d}`, mysqld.Host(), mysqld.Port()))
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	cfg := driver.NewConfig()
	cfg.DBName = "billing"
	cfg.ConnectionAttributes = "program_name:billing"
	connector, err := mysql.NewConnector(c, "prod/billing", &mysql.Options{Config: cfg})
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()

	var user, database string
	if err := db.QueryRow("select substring_index(current_user(), '@', 1), database()").Scan(&user, &database); err != nil {
		log.Fatal(err)
	}
	fmt.Println(user, "uses", database)
	// Output: billing uses billing
}
