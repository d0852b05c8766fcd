package main

import (
	"database/sql/driver"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

// openKeyturn is all that a program has to do: a cache over its Secrets Manager
// client, and a pool over the cache. Host, port, database, user and password
// are in the secret. All settings are the defaults.
//
// A program would call postgres.OpenDB, without Options. The demo wants the
// connector, to put its clock around it, and to see each login.
func openKeyturn(client cache.API, secretID string, watch func(*pgx.ConnConfig)) (driver.Connector, *cache.Cache, error) {
	c, err := cache.New(client, nil)
	if err != nil {
		return nil, nil, err
	}
	connector, err := postgres.NewConnector(c, secretID, &postgres.Options{
		Configure: func(cfg *pgx.ConnConfig) error {
			watch(cfg)
			return nil
		},
	})
	return connector, c, err
}
