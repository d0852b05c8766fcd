// Package dbconn opens database/sql connections whose password is in AWS
// Secrets Manager, also while it is being rotated.
//
// A connector logs in with the AWSCURRENT version of its secret. When the
// server refuses that, it reads the secret again and tries the other versions,
// inside the one Connect that database/sql asked for, so that no caller sees
// the rotation; package retry has the rules. Connections that are open go on
// working: servers check passwords at the login only. They make room for newer
// ones between two uses, where the driver asks [Credentials.Retired].
//
// For PostgreSQL use package postgres below this one, for MySQL and MariaDB package
// mysql. This package is the core, which knows no driver; [NewConnector] puts it
// under any other, and a [Source] under a pool that is not database/sql's.
//
// # The secret
//
// A JSON object with username and password, and optionally host, port (a number,
// or a string that holds one) and dbname, as AWS writes it. What the Options say
// goes before what the secret says; host and port are one unit. Nothing defaults
// to the local machine: a host that nobody named is an error.
//
// # Read replicas
//
// Make one connector per endpoint over one cache. What an endpoint accepts is
// remembered for that endpoint alone: a replica may lag behind its writer.
package dbconn
