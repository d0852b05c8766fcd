// Package mysql opens MySQL and MariaDB connections whose password is in AWS
// Secrets Manager, through database/sql and go-sql-driver, also while it is being
// rotated. Amazon Aurora MySQL is MySQL.
//
//	c, err := cache.New(secretsmanager.NewFromConfig(cfg), nil)
//	...
//	db, err := mysql.OpenDB(c, "prod/db", &mysql.Options{DSN: "/app?parseTime=true"})
//
// Package dbconn says what the secret holds, and package retry which of its
// versions is tried when. A login counts as refused with error 1045. With 1698,
// 1820 and 1862 (no password will do, or the right one has expired) only versions
// with another user are tried; with 3118, 3955, 4150 and 4151 (locked) that user is
// left alone for a while besides. Any other error is the caller's at once.
//
// # TLS
//
// Where nobody says tls=, the connection is encrypted, and certificate and host
// name are verified, unless the server is on this machine: a loopback address or a
// socket. What is said is done: tls=skip-verify encrypts for whoever answers, and
// tls=false not at all. What would turn into clear text when the server, or
// somebody in between, says so, is an error: tls=preferred and
// allowFallbackToPlaintext, but for a server on this machine.
//
// # The password
//
// MySQL's caching_sha2_password asks for the password itself when the server has
// not seen it yet, as after every rotation. Over TLS the driver sends it so; without
// TLS it encrypts it with the public key of whoever has answered. Here it does that
// on this machine alone. Elsewhere tls=false needs the server's key in advance
// ([Options.ServerPubKey]); a login that would send the password without one fails,
// before it is sent. Servers that ask for a proof only (mysql_native_password,
// MariaDB's) need neither. allowCleartextPasswords and allowOldPasswords, which make
// the driver obey any server that asks for more, are errors unless the server is
// verified, or on this machine.
//
// # Locked accounts
//
// MariaDB's max_password_errors and MySQL's FAILED_LOGIN_ATTEMPTS lock an account
// after some failed logins, of which every rotation costs at least one. Under such a
// limit set [Options.MaxConcurrentLogins] to 1, and have alternating users rotated
// if several programs share the secret. MySQL does not unlock an account when it
// gets a new password. It counts a login too that is broken off once it has asked for
// the password itself: by the network, by a caller whose context ends, or here, for
// want of TLS and of a public key. Give logins the time that they take.
package mysql
