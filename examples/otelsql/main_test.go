package otelsql_test

import (
	"context"
	"log"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/examples/internal/testbed"
)

// sm is secretsmanager.NewFromConfig(cfg) in a program.
var sm *secretsmanager.Client

func TestMain(m *testing.M) {
	bed, err := testbed.Start(context.Background(), "p4ssword")
	if err != nil {
		log.Fatal(err)
	}
	defer bed.Stop()
	sm = bed.SM.Client()
	m.Run()
}
