package agent_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/source/agent"
)

// On a host with an agent, agent.New(nil) is all there is to it. Here the agent is
// one that knows a single secret.
func Example() {
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"Name":%q,"VersionId":"v1","SecretString":"key-1","VersionStages":["AWSCURRENT"]}`, r.FormValue("secretId"))
	}))
	defer daemon.Close()
	client := agent.New(&agent.Options{
		Endpoint: daemon.URL,
		Token:    func(context.Context) (string, error) { return "token", nil },
	})

	c, err := cache.New(client, &cache.Options{TTL: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Get(context.Background(), "prod/api")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Name(), s.VersionID(), s.Text())
	// Output: prod/api v1 key-1
}
