// Smtestd is AWS Secrets Manager on a port: package smtest as a server, for
// docker-compose files, for programs that are not in Go, and for the AWS CLI.
//
//	smtestd -listen 127.0.0.1:4566 -data secrets.jsonl -seed seed.json
//	export AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:4566
//	aws secretsmanager get-secret-value --secret-id prod/db
//
// AWS's SDKs and its CLI read that variable (boto3 since 1.28, the CLI since 2.13;
// older ones take endpoint_url and --endpoint-url). They want some credentials and a
// Region besides, any will do: no signature is verified.
//
//	export AWS_ACCESS_KEY_ID=AKIALOCALLOCALLOCAL AWS_SECRET_ACCESS_KEY=x
//	export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
//
// One server has every Region and any number of accounts. A request's Region is the
// one that it is signed for, its account the one that -access-key gives its access
// key.
//
// # Output
//
// When the server can be reached, standard output gets one line and nothing else:
//
//	AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:4566
//
// so that a script can leave the port to the system:
//
//	smtestd -listen 127.0.0.1:0 >address 2>log &
//	until [ -s address ]; do sleep 0.1; done
//	export "$(cat address)"
//
// Standard error gets one line per request: what was asked, by whom, what was answered
// and how long it took. No line has a secret's value, unless a rotation function puts
// one into its error message, which is printed when a step fails.
//
// GET /healthz answers 200. An image without a shell asks with smtestd -healthcheck.
//
// # State
//
// Without -data the secrets are gone when the server ends. With -data FILE a change
// is in FILE, on disk, before its request is answered: what was acknowledged is there
// after kill -9, and after a power cut. FILE has a line of JSON per change (see
// [github.com/keyturn/keyturn/smtest.Server.Save]), and is written anew, beside it and
// then renamed, at each start and when it has grown to twice its contents. It holds
// the values in plain text, readable by its owner alone. FILE.lock keeps a second
// server away. A FILE that is damaged, or is something else, is left as it is, and
// the server does not start.
//
// A rotation that the server's end interrupts is started anew by the next one, and
// schedules go on.
//
// # Seeds
//
// -seed FILE.json creates the secrets that are not there yet. It never changes one
// that is, nor one that is marked for deletion.
//
//	{
//	  "prod/api-key": "k-123",
//	  "prod/db": {
//	    "value": {"username": "app", "password": "one"},
//	    "description": "the application's user",
//	    "tags": {"team": "core"},
//	    "kmsKey": "alias/app",
//	    "policy": {"Version": "2012-10-17", "Statement": []},
//	    "region": "eu-west-1"
//	  },
//	  "prod/cert": {"binary": "AAEC"}
//	}
//
// A value that is no string is stored as its JSON text; a binary one is given in
// base64. A secret may have neither.
//
// # Rotation
//
// RotateSecret calls the function whose ARN it is given. -rotation-function ARN=URL
// says where: each of the four steps is a POST to URL with the event that Lambda
// would get. AWS's Lambda base images answer it at
// http://HOST:8080/2015-03-31/functions/function/invocations. With
// -any-rotation-function every other ARN stands for a function that rotates to a copy
// of the value.
//
// # Docker
//
// The Dockerfile beside this file builds an image of this program alone:
//
//	docker build -t smtestd -f cmd/smtestd/Dockerfile .
//
// A container's port is beyond loopback, which smtestd has to be told. The image has a
// health check.
//
//	services:
//	  secrets:
//	    image: smtestd
//	    command: -listen 0.0.0.0:4566 -allow-remote -data /data/secrets.jsonl -seed /seed.json
//	    ports: ["127.0.0.1:4566:4566"]
//	    volumes: ["secrets:/data", "./seed.json:/seed.json:ro"]
//	  app:
//	    build: .
//	    environment:
//	      AWS_ENDPOINT_URL_SECRETS_MANAGER: http://secrets:4566
//	      AWS_ACCESS_KEY_ID: AKIALOCALLOCALLOCAL
//	      AWS_SECRET_ACCESS_KEY: x
//	      AWS_REGION: us-east-1
//	      AWS_DEFAULT_REGION: us-east-1
//	    depends_on:
//	      secrets: {condition: service_healthy}
//	volumes:
//	  secrets: {}
//
// # End
//
// SIGINT and SIGTERM end the server: rotations that are running come to their end,
// requests are still served meanwhile, the last of them are answered. After 8 seconds,
// Docker gives 10, or at a second signal, what is left is cut off.
//
// The exit status is 0 after that, and for -h, -version and a -healthcheck that finds
// the server up; 1 if the server could not start, or could not go on, which standard
// error explains; 2 if the command line is wrong.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on they have their usual effect: a second one ends the
	// program at once.
	context.AfterFunc(ctx, stop)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
