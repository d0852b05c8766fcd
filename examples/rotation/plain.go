package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
)

// openPlain is what most programs do: pgx asks for the password before each
// login, and gets what a cache with a TTL has.
//
// Between setSecret and finishSecret that is a password which the server does
// not take any more, however short the TTL; and after finishSecret it stays so
// until the TTL ends.
func openPlain(dsn string, passwords *ttlCache, watch func(*pgx.ConnConfig)) (driver.Connector, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	watch(cfg)
	return stdlib.GetConnector(*cfg, stdlib.OptionBeforeConnect(func(ctx context.Context, cfg *pgx.ConnConfig) error {
		password, err := passwords.get(ctx)
		cfg.Password = password
		return err
	})), nil
}

// A ttlCache keeps the password of one secret.
type ttlCache struct {
	client   cache.API
	secretID string
	ttl      time.Duration

	mu       sync.Mutex // protects following; held during the call, so that one is made for all
	password string
	read     time.Time
}

func (c *ttlCache) get(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read.IsZero() && time.Since(c.read) < c.ttl {
		return c.password, nil
	}
	now := time.Now()
	out, err := c.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &c.secretID})
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", c.secretID, err)
	}
	var v struct{ Password string }
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &v); err != nil {
		return "", errors.New("secret " + c.secretID + " is not JSON") // encoding/json's own text quotes it
	}
	c.password, c.read = v.Password, now
	return c.password, nil
}
