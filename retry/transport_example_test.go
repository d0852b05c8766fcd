package retry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// An API wants a bearer token, and the token is rotated: the program does not
// notice.
func ExampleNewTransport() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/stripe", "key-1")
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	accepted := "key-1"
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+accepted {
			fmt.Println("the API refuses", r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "charged %s", body)
	}))
	defer api.Close()
	host := strings.TrimPrefix(api.URL, "https://") // "api.stripe.com" in a program

	setKey := func(r *http.Request, s *cache.Secret) error {
		r.Header.Set("Authorization", "Bearer "+s.Text())
		return nil
	}
	client := &http.Client{Transport: retry.NewTransport(c, "prod/stripe", host, setKey, &retry.TransportOptions{
		Base: api.Client().Transport, // which trusts the certificate of this server
	})}

	charge := func(amount string) {
		resp, err := client.Post(api.URL, "text/plain", strings.NewReader(amount))
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(resp.StatusCode, string(body))
	}
	charge("1 EUR")
	if _, err := srv.Rotate(context.Background(), "prod/stripe", "key-2"); err != nil {
		log.Fatal(err)
	}
	accepted = "key-2"
	charge("2 EUR")
	// Output:
	// 200 charged 1 EUR
	// the API refuses Bearer key-1
	// 200 charged 2 EUR
}

// The secret is JSON, of which the key is one field; and the API says in the body
// of a 403 that it does not know the key.
func ExampleTransportOptions() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/maps", `{"app":"shop","key":"key-1"}`)
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "key-2" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"error":"unknown_key"}`)
			return
		}
		fmt.Fprint(w, "you are here")
	}))
	defer api.Close()
	host := strings.TrimPrefix(api.URL, "https://")

	setKey := func(r *http.Request, s *cache.Secret) error {
		var secret struct {
			Key cache.Redacted `json:"key"`
		}
		if err := s.Decode(&secret); err != nil {
			return err
		}
		r.Header.Set("X-Api-Key", string(secret.Key))
		return nil
	}
	unknownKey := func(resp *http.Response) bool {
		if resp.StatusCode != http.StatusForbidden {
			return false
		}
		start, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
		// Put back what was read.
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
		return err == nil && bytes.Contains(start, []byte("unknown_key"))
	}
	client := &http.Client{Transport: retry.NewTransport(c, "prod/maps", host, setKey, &retry.TransportOptions{
		Base:     api.Client().Transport,
		Rejected: unknownKey,
	})}

	if _, err := c.Get(context.Background(), "prod/maps"); err != nil {
		log.Fatal(err)
	}
	srv.Put("prod/maps", `{"app":"shop","key":"key-2"}`) // the cache holds key-1
	resp, err := client.Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, string(body))
	// Output:
	// 200 you are here
}
