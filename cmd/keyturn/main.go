// Keyturn is a doctor for the person on call: it says what is wrong with a secret
// of AWS Secrets Manager, and what to do about it.
//
//	keyturn check prod/db
//	keyturn check -login -replica replica.example.com:5432 prod/db
//	keyturn check -json prod/db | jq '.findings[] | select(.status == "problem")'
//
// It asks as whoever runs it, with the credentials that the AWS CLI would use: who
// that is, which policy denies it what, which versions have which labels and how
// old they are, whether package dbconn can use their values, when the secret is
// rotated, and whether a rotation is stuck and how to free it. It changes nothing,
// at AWS nor in a database.
//
// No value of a secret is ever shown; the name of the user, the server and the
// database in it are.
//
// # Logins
//
// With -login it logs in with the versions, on the server that each names, on the
// replicas in the secret's list "replicas", as package rotation defines it, and on
// those of -replica: the secret's user on servers that whoever may write the secret
// has named. No version is tried twice on a server, since failed logins are
// counted where accounts lock. A version is left out whose refusal would say
// nothing: AWSPREVIOUS, where a newer version of the same user is accepted. If no
// version with a label is accepted, up to three without one are tried.
//
// # Output
//
// A table, or with -json one object, whose fields keep their names:
//
//	secret    what was asked for
//	region    where
//	time      when, in UTC
//	status    the worst of the findings: "ok", "unknown" or "problem"
//	findings  check, status, detail; version, server and fix where there are any
//
// Status is also "note" in a finding: nothing is wrong, but it is good to know. A
// finding's check is one of identity, secret, access, version, value, rotation,
// login and stuck. Lines of a fix that begin with two spaces are commands.
// Detail and fix are for people: their texts change.
//
// # Exit status
//
// 0 healthy; 1 a problem was found; 2 the command line is wrong; 3 no problem was
// found, but something could not be checked.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr, system())
	stop()
	os.Exit(status)
}
