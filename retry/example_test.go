package retry_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

var errUnauthorized = errors.New("401 unauthorized")

func Example() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/api", "key-1")
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	accepted := "key-1"
	login := func(_ context.Context, s *cache.Secret) error {
		if s.Text() != accepted {
			return errUnauthorized
		}
		fmt.Println("logged in with", s.Text())
		return nil
	}

	r := retry.New(c, "prod/api", func(err error) bool { return errors.Is(err, errUnauthorized) }, nil)
	if err := r.Do(context.Background(), login); err != nil {
		log.Fatal(err)
	}
	// Somebody rotates the key: the cache still holds the old one, and the
	// API does not want it any more.
	if _, err := srv.Rotate(context.Background(), "prod/api", "key-2"); err != nil {
		log.Fatal(err)
	}
	accepted = "key-2"
	if err := r.Do(context.Background(), login); err != nil {
		log.Fatal(err)
	}
	// Output:
	// logged in with key-1
	// logged in with key-2
}
