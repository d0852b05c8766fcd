package migrating_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

func Example_hookBefore() {
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	cfg.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		out, err := sm.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
		if err != nil {
			return err
		}
		var secret struct{ Username, Password string }
		if err := json.Unmarshal([]byte(*out.SecretString), &secret); err != nil {
			return err
		}
		cc.User, cc.Password = secret.Username, secret.Password
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	fmt.Println(pool.Ping(ctx))
	// Output: <nil>
}

func Example_hookAfter() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	if err := postgres.ConfigurePool(cfg, c, "prod/db", nil); err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close() // before the cache
	fmt.Println(pool.Ping(ctx))
	// Output: <nil>
}

func Example_hookAfterSQL() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{DSN: os.Getenv("DATABASE_DSN")})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close() // before the cache
	fmt.Println(db.PingContext(ctx))
	// Output: <nil>
}
