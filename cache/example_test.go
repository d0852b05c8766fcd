package cache_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
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

// service returns a Secrets Manager in process, with two secrets. In a program the
// client is secretsmanager.NewFromConfig(cfg).
func service() (*smtest.Server, cache.API) {
	srv := smtest.New(nil)
	srv.Put("prod/api", "key-1")
	srv.Put("prod/app", `{"greeting":"hello","token":"t0ken"}`)
	return srv, srv.Client()
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A secret that is a JSON object is decoded once for each of its versions.
func ExampleJSON() {
	type App struct {
		Greeting string
		Token    cache.Redacted
	}
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()

	app := cache.JSON[App](c, "prod/app") // once, when the program starts

	cfg := must(app.Get(context.Background())) // wherever it is needed
	fmt.Println(cfg.Greeting, cfg.Token, len(string(cfg.Token)))
	// Output: hello [redacted] 5
}

// Anything can be made of a secret: a certificate, a client, a function that signs.
func ExampleDerive() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()

	sign := cache.Derive(c, "prod/api", func(s *cache.Secret) (func(string) []byte, error) {
		key := s.Bytes()
		return func(message string) []byte {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(message))
			return mac.Sum(nil)
		}, nil
	})

	f := must(sign.Get(context.Background()))
	fmt.Printf("%.8x\n", f("order 7"))
	// Output: bd94d5668281095d
}

// A program reads what it needs when it starts, with one call, and learns at once
// what is missing.
func ExampleCache_Prefetch() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()

	err := c.Prefetch(context.Background(), "prod/api", "prod/app", "prod/none")
	fmt.Println(errors.Is(err, cache.ErrNotFound))
	fmt.Println(must(c.Get(context.Background(), "prod/api")).Text())
	fmt.Println("batch calls:", c.Stats().BatchCalls, "single calls:", c.Stats().Calls)
	// Output:
	// true
	// key-1
	// batch calls: 1 single calls: 0
}

// A health endpoint asks for what is known, and neither waits nor calls.
func ExampleHandle_Status() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()
	h := c.Handle("prod/api")

	fmt.Println(h.Status().State)
	must(h.Get(context.Background()))
	fmt.Println(h.Status().State)
	// Output:
	// dead
	// fresh
}

// Local work needs no AWS account.
func ExampleStatic() {
	c := must(cache.New(cache.Static(map[string]string{"prod/api": "local-key"}), nil))
	defer c.Close()
	fmt.Println(must(c.Get(context.Background(), "prod/api")).Text())
	// Output: local-key
}

// A version without what the program needs does not reach it.
func ExampleOptions_validate() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, &cache.Options{
		MinRefresh: -1,
		Validate: func(s *cache.Secret) error {
			var app struct{ Greeting string }
			if err := s.Decode(&app); err != nil {
				return err
			}
			if app.Greeting == "" {
				return errors.New("no greeting")
			}
			return nil
		},
	}))
	defer c.Close()
	good := must(c.Get(context.Background(), "prod/app"))

	srv.Put("prod/app", `{"greeting":""}`)
	_, err := c.Refresh(context.Background(), "prod/app")
	fmt.Println(err != nil)
	fmt.Println(must(c.Get(context.Background(), "prod/app")).VersionID() == good.VersionID())
	// Output:
	// true
	// true
}
