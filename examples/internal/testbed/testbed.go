// Package testbed is what the examples find in the place of AWS and of a
// database: a Secrets Manager in process, and a PostgreSQL server that its secret
// prod/db is for.
package testbed

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/smtest"
)

const (
	secretID = "prod/db"
	user     = "app" // and the database

	current = "AWSCURRENT"
	pending = "AWSPENDING"
)

// A Bed is both servers.
type Bed struct {
	SM *smtest.Server
	PG *pgserver.Server
}

// Start starts both, and has the PG* variables forgotten, which would go before
// the secret.
func Start(ctx context.Context, password string) (*Bed, error) {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return nil, err
			}
		}
	}
	pg, err := pgserver.Start(ctx, nil)
	if err != nil {
		return nil, err
	}
	b := &Bed{SM: smtest.New(nil), PG: pg}
	if err := pg.CreateUser(ctx, user, password); err != nil {
		b.Stop()
		return nil, err
	}
	b.SM.Put(secretID, b.value(password))
	return b, nil
}

// Stop stops both.
func (b *Bed) Stop() {
	_ = b.PG.Stop()
	b.SM.Close()
}

// OpenWindow does what a rotation does up to setSecret, and leaves it there: the
// database wants the new password, and the secret has it under AWSPENDING.
func (b *Bed) OpenWindow(ctx context.Context, password string) error {
	_, err := b.SM.Client().PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId:      aws.String(secretID),
		SecretString:  aws.String(b.value(password)),
		VersionStages: []string{pending},
	})
	if err != nil {
		return err
	}
	return b.PG.SetPassword(ctx, user, password)
}

// CloseWindow does what finishSecret does: the version becomes AWSCURRENT.
func (b *Bed) CloseWindow(ctx context.Context) error {
	client := b.SM.Client()
	versions, err := client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(secretID)})
	if err != nil {
		return err
	}
	move := &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String(secretID), VersionStage: aws.String(current)}
	for id, stages := range versions.VersionIdsToStages {
		switch {
		case slices.Contains(stages, pending):
			move.MoveToVersionId = aws.String(id)
		case slices.Contains(stages, current):
			move.RemoveFromVersionId = aws.String(id)
		}
	}
	if _, err := client.UpdateSecretVersionStage(ctx, move); err != nil {
		return err
	}
	_, err = client.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String(secretID), VersionStage: aws.String(pending), RemoveFromVersionId: move.MoveToVersionId,
	})
	return err
}

// value returns the secret's value, as AWS writes it for databases.
func (b *Bed) value(password string) string {
	value, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": b.PG.Host(), "port": b.PG.Port(), "dbname": user, "username": user, "password": password,
	})
	if err != nil {
		panic(err) // strings and a number
	}
	return string(value)
}
