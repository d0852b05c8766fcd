package cache_test

import (
	"context"
	"expvar"
	"fmt"

	"github.com/keyturn/keyturn/cache"
)

// The counts under /debug/vars, without any dependency.
func ExampleCache_Stats_expvar() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()
	vars := expvar.Func(func() any { return c.Stats() })
	// In a program, once: expvar.Publish("keyturn", vars)

	for range 1000 {
		must(c.Get(context.Background(), "prod/api"))
	}
	fmt.Println(vars)
	// Output: {"Entries":1,"Calls":1,"BatchCalls":0,"Failures":0,"Waits":1,"Stale":0,"Changes":0,"Rejections":0,"Evictions":0}
}
