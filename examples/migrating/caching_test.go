package migrating_test

import (
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"

	"github.com/keyturn/keyturn/cache"
)

func Example_cachingBefore() {
	secrets, err := secretcache.New(func(c *secretcache.Cache) {
		c.Client = sm
		c.CacheItemTTL = time.Hour.Nanoseconds()
	})
	if err != nil {
		log.Fatal(err)
	}
	key, err := secrets.GetSecretStringWithContext(ctx, "prod/api-key")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(key))
	// Output: 16
}

func Example_cachingAfter() {
	c, err := cache.New(sm, &cache.Options{TTL: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Get(ctx, "prod/api-key")
	if err != nil {
		log.Fatal(err)
	}
	key := s.Text()
	fmt.Println(len(key))
	// Output: 16
}
