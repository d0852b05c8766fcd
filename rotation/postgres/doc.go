// Package postgres rotates the password of a PostgreSQL user: on Amazon RDS, on
// Aurora, or on any server from PostgreSQL 11 on.
//
//	h := rotation.NewHandler(client, postgres.NewTarget(nil), nil)
//	lambda.Start(h.Handle)
//
// # The secret
//
// A JSON object with the keys of AWS's own functions:
//
//	{"engine": "postgres", "host": "db.example.com", "port": 5432, "username": "app", "password": "...", "dbname": "app"}
//
// engine may be missing, another engine's is an error; port (a number or a string)
// may be missing: 5432; dbname too: postgres. All other keys are carried over into each new version, byte for byte. The host must
// be the one that takes writes, unless a superuser acts, whose secret names that
// one.
//
// # Single user
//
// [SingleUser] has the user change its own password, for which it needs no
// privilege; [SingleUserBySuperuser] has a superuser do it. PostgreSQL holds one
// password per user: between setSecret and finishSecret it refuses AWSCURRENT.
// Open connections go on. Where that is too much, use alternating users, or
// clients that try AWSPENDING (package dbconn), or both.
//
// # Alternating users
//
// [AlternatingUsers] has a superuser create a partner, app_clone beside app, which
// is a member of app and whose sessions act as app (ALTER ROLE app_clone SET role =
// app). So current_user is app whoever logs in, what either creates is app's, and
// what app is granted or loses both are granted and lose at once, in every
// database. Grant to app, never to app_clone. What a session sees as session_user
// alternates, and so does the user in pg_hba.conf: write +app there.
//
// Every setSecret sees to it that this is so, and that the partner has the same
// attributes (CREATEDB, CONNECTION LIMIT, VALID UNTIL and their like), the same
// settings (ALTER ROLE .. SET, also IN DATABASE), no other roles, and owns nothing.
// What the partner was given of its own is taken from it; unless it is the user of
// AWSCURRENT, which keeps it, and app is given it too. testSecret compares them
// once more, and an error lists the statements that are missing.
//
// A partner is known by a comment that it gets when it is created. A role of that
// name without it is never touched; the error says how to adopt one that another
// function has made.
//
// # The superuser
//
// It need not be one: CREATEROLE is enough, which the master user of Amazon RDS
// has, and from PostgreSQL 16 on ADMIN OPTION for app:
//
//	GRANT app TO master WITH ADMIN OPTION
//
// Attributes that CREATEROLE may not give (REPLICATION, BYPASSRLS), settings that
// it may not make, and grants by other owners to the partner are an error that says
// what a superuser has to run.
//
// Its secret may be one that RDS manages, which names no server: it logs in at the
// host of the secret that is rotated then, and only if that is loopback or a root
// of Amazon RDS vouches for it (or those of [Options.TLS]), whatever "ssl" says
// there. So whoever may write that secret cannot have the superuser log in to a
// server of theirs. Nor can they by what they put into the database: what the
// superuser runs finds nothing but pg_catalog in its search_path.
//
// # Read replicas
//
// "replicas" in the secret, a list of hosts or host:port, and [Options.Replicas]
// name those on which the new password has to work before AWSCURRENT moves. A name
// with several addresses is all of them. The reader endpoint of Aurora answers with
// one address at a time: name the instances.
//
// # TLS
//
// The connection is encrypted, and certificate and host name are verified,
// unless the host is a loopback address or a socket, or "ssl" is false in the
// secret; "ssl": true asks for it on loopback too. No failure of TLS is followed
// by an attempt without it.
//
// # The password
//
// It never leaves the process in an SQL statement: what is sent is the verifier
// that the server would compute from it, SCRAM-SHA-256 or MD5 as the server's
// password_encryption says. So it is in no server log either. The price is that
// the server cannot judge its strength, and that its characters must be ASCII
// ([Target.Set] says why); generated ones are.
package postgres
