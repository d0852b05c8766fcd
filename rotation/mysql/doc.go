// Package mysql rotates the password of a MySQL or MariaDB user: on Amazon RDS, on
// Aurora, or on any server.
//
//	h := rotation.NewHandler(client, mysql.NewTarget(nil), nil)
//	lambda.Start(h.Handle)
//
// # The secret
//
// A JSON object with the keys of AWS's own functions:
//
//	{"engine": "mysql", "host": "db.example.com", "port": 3306, "username": "app", "password": "...", "dbname": "app"}
//
// engine (mysql, aurora-mysql, mariadb) may be missing; port (a number or a
// string) too: 3306; and dbname: logins are to no database then. All other keys
// are carried over into each new version, byte for byte. The host must be the one
// that takes writes, unless a superuser acts, whose secret names that one.
//
// # Single user
//
// [SingleUser] has the user change its own password. Both passwords work until
// finishSecret, if the server has room for two and the user may use it: on MySQL
// from 8.0.14 on with APPLICATION_PASSWORD_ADMIN, on MariaDB from 10.4 on with
// CREATE USER. That is much to give to an application on MariaDB, where
// [SingleUserBySuperuser] needs nothing of the kind. If not, the server refuses
// AWSCURRENT between setSecret and finishSecret, which is logged.
//
// # Alternating users
//
// [AlternatingUsers] has a superuser create a partner, app_clone beside app, at
// the same host. Every setSecret gives the one whose turn it is what the user of
// AWSCURRENT has, no more and no less: privileges with their grant options, roles
// and default roles, proxies, REQUIRE, limits and password options. So grant and
// revoke on the user of AWSCURRENT, or on a role that both have: what only the
// other one was given is taken away again. testSecret compares them. It takes
// MySQL 8.0.21 or MariaDB 10.4.
//
// A partner is known by a record that it gets when it is created: on MySQL the
// user attribute keyturn_partner_of, on MariaDB the role "keyturn partner of app",
// which gives no rights. A user of that name without it is never touched; the
// error says how to adopt one that another function has made.
//
// # The superuser
//
// It needs CREATE USER, SELECT on mysql.*, and for alternating users what they
// have, WITH GRANT OPTION and WITH ADMIN OPTION; on MariaDB also UPDATE on mysql.*
// if there are default roles. The master user of Amazon RDS has all that. Its
// secret may be one that RDS manages, which names no server: it logs in at the host
// of the secret then, and only if a root of Amazon RDS vouches for that one (or
// those of [Options.TLS]), so that whoever may write the secret cannot have the
// superuser's password sent elsewhere.
//
// A user with several accounts ('app'@'10.0.%' and 'app'@'localhost') is an error:
// each has a password and rights of its own. With [SingleUser] nobody can see
// them, and the one by which the function logs in is changed.
//
// # TLS
//
// The connection is encrypted, and certificate and host name are verified, unless
// the host is a loopback address or a socket, or "ssl" is false in the secret;
// "ssl": true asks for it on loopback too. No failure of TLS is followed by an
// attempt without it. Without TLS a login that would give the password away, as
// caching_sha2_password does, fails before it is sent, but on loopback.
//
// # The password
//
// A superuser sends what the server would store, computed here, and so does every
// user of MariaDB. A user of MySQL may send its own password only as it is; MySQL
// keeps it out of all its logs. Known are caching_sha2_password, sha256_password
// and mysql_native_password, and on MariaDB mysql_native_password, beside which
// other ways to log in, unix_socket for instance, stay as they are. A server that
// checks the strength of passwords cannot check what it does not see. Passwords
// have at most 255 bytes.
package mysql
