package migrating_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	keyturnmysql "github.com/keyturn/keyturn/dbconn/mysql"
)

func Example_mysqlBefore() {
	cfg, err := mysql.ParseDSN(os.Getenv("MYSQL_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	err = cfg.Apply(mysql.BeforeConnect(func(ctx context.Context, cfg *mysql.Config) error {
		out, err := sm.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/mysql")})
		if err != nil {
			return err
		}
		var secret struct{ Username, Password string }
		if err := json.Unmarshal([]byte(*out.SecretString), &secret); err != nil {
			return err
		}
		cfg.User, cfg.Passwd = secret.Username, secret.Password
		return nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	fmt.Println(db.PingContext(ctx))
	// Output: <nil>
}

func Example_mysqlAfter() {
	c, err := cache.New(sm, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	db, err := keyturnmysql.OpenDB(c, "prod/mysql", &keyturnmysql.Options{DSN: os.Getenv("MYSQL_DSN")})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close() // before the cache
	fmt.Println(db.PingContext(ctx))
	// Output: <nil>
}
