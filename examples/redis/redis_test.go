package redis_test

import (
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	goredis "github.com/redis/go-redis/v9"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/examples/redis"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// sm is secretsmanager.NewFromConfig(cfg) in a program, and addr the address of a
// real Redis.
var (
	sm   *secretsmanager.Client
	addr string

	server  *miniredis.Miniredis
	secrets *smtest.Server
)

func TestMain(m *testing.M) {
	var err error
	if server, err = miniredis.Run(); err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	secrets = smtest.New(nil)
	defer secrets.Close()
	server.RequireUserAuth("app", "one")
	secrets.Put("prod/redis", value("one"))
	sm, addr = secrets.Client(), server.Addr()
	m.Run()
}

func value(password string) string {
	return fmt.Sprintf(`{"username":"app","password":%q}`, password)
}

func newClient(t *testing.T, secretID string) *goredis.Client {
	t.Helper()
	c, err := cache.New(sm, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client := redis.NewClient(c, secretID, goredis.Options{Addr: addr, DB: 1, ClientName: "shop", MaxIdleConns: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// In the middle of a rotation a new connection logs in with AWSPENDING.
func TestRotation(t *testing.T) {
	_, err := sm.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/redis"), SecretString: aws.String(value("two")), VersionStages: []string{"AWSPENDING"},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.RequireUserAuth("app", "two")
	defer server.RequireUserAuth("app", "one")
	if err := newClient(t, "prod/redis").Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Error(err)
	}
	if got, err := server.DB(1).Get("a"); got != "1" {
		t.Errorf("in database 1: %q, %v", got, err)
	}
}

// Where no version is accepted the error says so, and what the server said.
func TestRefused(t *testing.T) {
	secrets.Put("prod/redis-of-old", value("none"))
	err := newClient(t, "prod/redis-of-old").Ping(t.Context()).Err()
	if _, ok := errors.AsType[*retry.Error](err); !ok || !goredis.HasErrorPrefix(err, "WRONGPASS") {
		t.Errorf("Ping: %v, want a *retry.Error with Redis's own", err)
	}
}
