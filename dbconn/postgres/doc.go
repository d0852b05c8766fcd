// Package postgres opens PostgreSQL connections whose password is in AWS Secrets
// Manager, through pgx, also while it is being rotated: for database/sql, as a pgx
// pool, or one by one.
//
//	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
//	...
//	db, err := postgres.OpenDB(c, "prod/db", nil)           // *sql.DB
//	pool, err := postgres.NewPool(ctx, c, "prod/db", nil)   // *pgxpool.Pool
//	conn, err := postgres.Connect(ctx, c, "prod/db", nil)   // *pgx.Conn
//
// Package dbconn says what the secret holds, and package retry which of its
// versions is tried when. A login counts as refused with SQLSTATE 28P01, and behind
// PgBouncer with 08P01 and a text that speaks of authentication. With 28000 (the
// role may not log in, or RDS Proxy does not know it yet) only versions with another
// user are tried. Any other error is the caller's at once.
//
// # Pools
//
// A pgx pool makes one connect and gives its error to whoever waits. So the versions
// are tried inside that connect, by pgx's public hooks, of which the caller's own are
// called too. What an address of the server accepts is remembered for that address: a
// reader endpoint may have nodes of which one lags behind. A connect goes on when the
// caller who asked for it has given up, as in any pgx pool.
//
// Once a login has proven a newer version, connections that were opened before make
// room when they are next taken from the pool, within ten seconds and evenly spread.
// No transaction is cut. See Options.KeepOld.
//
// # TLS
//
// Where nobody says sslmode, the server's certificate and name are verified, by the
// system's roots or Amazon RDS's, which are built in, unless the server is on this
// machine. There is no second attempt in clear text.
package postgres
