package opendsn_test

import (
	"fmt"
	"log"
	"net/url"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/examples/opendsn"
)

func Example() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := opendsn.Open(c, "prod/db", url.Values{"sslmode": {"disable"}}) // the server is this machine
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var user string
	fmt.Println(db.QueryRow("select current_user").Scan(&user), user)
	// Output: <nil> app
}
