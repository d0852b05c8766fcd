package redis_test

import (
	"context"
	"fmt"
	"log"

	goredis "github.com/redis/go-redis/v9"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/examples/redis"
)

func Example() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	client := redis.NewClient(c, "prod/redis", goredis.Options{Addr: addr})
	defer client.Close()

	ctx := context.Background()
	if err := client.Set(ctx, "greeting", "hello", 0).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Get(ctx, "greeting").Result())
	// Output: hello <nil>
}
