package main

import (
	"context"
	"io"
	"time"
)

// What the tests need of the program.
var (
	Main  = main
	Usage = usage
	Look  = look
)

type (
	SecretsAPI  = secretsAPI
	IdentityAPI = identityAPI
)

// Run is run with these clients.
func Run(ctx context.Context, secrets SecretsAPI, identity IdentityAPI, region string, args []string, stdout, stderr io.Writer) int {
	return run(ctx, args, stdout, stderr, deps{
		connect: func(context.Context, settings) (clients, error) { return clients{secrets, identity, region}, nil },
		now:     time.Now,
	})
}
