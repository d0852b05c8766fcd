// Package postgres opens PostgreSQL connections whose password is in AWS Secrets
// Manager, through database/sql and pgx, also while it is being rotated.
//
//	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
//	...
//	db, err := postgres.OpenDB(c, "prod/db", nil)
//
// Package dbconn says what the secret holds, and package retry which of its
// versions is tried when. A login counts as refused with SQLSTATE 28P01 or
// 28000; any other error is the caller's at once.
package postgres
