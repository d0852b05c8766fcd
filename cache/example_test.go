package cache_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

func Example() {
	// In a program: client := secretsmanager.NewFromConfig(cfg)
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/api", "key-1")
	client := srv.Client()

	c, err := cache.New(client, &cache.Options{TTL: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for range 1000 {
		if _, err := c.Get(context.Background(), "prod/api"); err != nil {
			log.Fatal(err)
		}
	}
	s, err := c.Get(context.Background(), "prod/api")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("printed:", s)
	fmt.Println("its text:", s.Text())
	fmt.Println("calls:", srv.Count("GetSecretValue"))
	// Output:
	// printed: [redacted]
	// its text: key-1
	// calls: 1
}
