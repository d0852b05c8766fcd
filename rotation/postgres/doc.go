// Package postgres rotates the password of a PostgreSQL user: on Amazon RDS, on
// Aurora, or on any server.
//
//	h := rotation.NewHandler(client, postgres.NewTarget(nil), nil)
//	lambda.Start(h.Handle)
//
// The strategy is single user: the user of the secret changes its own password,
// for which it needs no privilege. Between setSecret and finishSecret the server
// refuses AWSCURRENT.
//
// setSecret first tries whether the pending password is set already, so that it
// may be repeated. That is one refused login per rotation, in the server's log
// and in the count of a server that locks accounts.
//
// # The secret
//
// A JSON object with the keys of AWS's own functions:
//
//	{"host": "db.example.com", "port": 5432, "username": "app", "password": "...", "dbname": "app"}
//
// port (a number or a string) may be missing: 5432; dbname too: postgres. All
// other keys are carried over into each new version, byte for byte. The host
// must be the one that takes writes, not a read replica.
//
// # TLS
//
// The connection is encrypted, and certificate and host name are verified,
// unless the host is a loopback address or a socket, or "ssl" is false in the
// secret; "ssl": true asks for it on loopback too. No failure of TLS is followed
// by an attempt without it. Servers of Amazon RDS have certificates that the
// system's roots may not know: see [Options.TLS].
//
// # The password
//
// It never leaves the process in an SQL statement: what is sent is the verifier
// that the server would compute from it, SCRAM-SHA-256 or MD5 as the server's
// password_encryption says. So it is in no server log either. The price is that
// the server cannot judge its strength, and that its characters must be ASCII
// ([Target.Set] says why); generated ones are.
package postgres
