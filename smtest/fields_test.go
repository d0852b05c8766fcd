package smtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// neverFilled are the members of the SDK's answers that this server leaves absent,
// and why.
var neverFilled = map[string]string{}

// Every member of every answer that the SDK knows is filled by some request, in a
// scenario that has a bit of everything, or is known not to be.
func TestEveryFieldIsFilled(t *testing.T) {
	filled := make(map[string]bool)
	synctest.Test(t, func(t *testing.T) {
		srv, east := newServer(t)
		srv.AddFunction(functionARN, func(ctx context.Context, event []byte) error {
			return justRotate(ctx, east, event)
		})
		srv.Put("rds!db-1", "managed")
		clients := map[string]*sm.Client{"east": east, "west": srv.Client(inRegion("eu-west-1"))}
		for _, step := range []struct{ region, operation, input string }{
			{"west", "CreateSecret", `{"Name":"taken","SecretString":"x"}`},
			{"east", "CreateSecret", `{"Name":"taken","SecretString":"x","AddReplicaRegions":[{"Region":"eu-west-1"},{"Region":"ap-south-1"}]}`},
			{"east", "DescribeSecret", `{"SecretId":"taken"}`},
			{"east", "CreateSecret", `{"Name":"again","SecretString":"x","ClientRequestToken":"` + ver("again") + `","AddReplicaRegions":[{"Region":"eu-west-1"}]}`},
			{"west", "GetSecretValue", `{"SecretId":"again"}`},
			{"east", "CreateSecret", `{"Name":"again","SecretString":"x","ClientRequestToken":"` + ver("again") + `"}`},
			{"east", "CreateSecret", `{"Name":"s","SecretString":"x","Description":"d","KmsKeyId":"alias/app","Type":"Partner","Tags":[{"Key":"k","Value":"v"}],"AddReplicaRegions":[{"Region":"eu-west-1","KmsKeyId":"alias/west"}]}`},
			{"west", "GetSecretValue", `{"SecretId":"s"}`},
			{"east", "GetSecretValue", `{"SecretId":"s"}`},
			{"east", "RotateSecret", `{"SecretId":"s","RotationLambdaARN":"` + functionARN + `","RotationRules":{"ScheduleExpression":"rate(10 days)","Duration":"2h"},` +
				`"ExternalSecretRotationRoleArn":"arn:aws:iam::123456789012:role/rotate","ExternalSecretRotationMetadata":[{"Key":"k","Value":"v"}]}`},
			{"east", "DescribeSecret", `{"SecretId":"s"}`},
			{"east", "ListSecrets", `{}`},
			{"east", "RotateSecret", `{"SecretId":"s","RotationRules":{"AutomaticallyAfterDays":10}}`},
			{"east", "PutSecretValue", `{"SecretId":"s","SecretBinary":"AQI="}`},
			{"east", "PutSecretValue", `{"SecretId":"s","SecretString":"pending","VersionStages":["AWSPENDING"]}`},
			{"east", "GetSecretValue", `{"SecretId":"s"}`},
			{"east", "BatchGetSecretValue", `{"SecretIdList":["s","none","taken"]}`},
			{"east", "BatchGetSecretValue", `{"Filters":[{"Key":"all","Values":["!nothing"]}],"MaxResults":1}`},
			{"east", "ListSecretVersionIds", `{"SecretId":"s","MaxResults":1}`},
			{"east", "ListSecretVersionIds", `{"SecretId":"s"}`},
			{"east", "UpdateSecret", `{"SecretId":"s","SecretString":"y"}`},
			{"east", "UpdateSecretVersionStage", `{"SecretId":"s","VersionStage":"x","MoveToVersionId":"{current}"}`},
			{"east", "TagResource", `{"SecretId":"s","Tags":[{"Key":"k","Value":"w"}]}`},
			{"east", "UntagResource", `{"SecretId":"s","TagKeys":["other"]}`},
			{"east", "PutResourcePolicy", `{"SecretId":"s","ResourcePolicy":"{\"Statement\":[]}"}`},
			{"east", "GetResourcePolicy", `{"SecretId":"s"}`},
			{"east", "ValidateResourcePolicy", `{"ResourcePolicy":"{\"Statement\":[]}"}`},
			{"east", "ValidateResourcePolicy", `{"ResourcePolicy":"{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}"}`},
			{"east", "DeleteResourcePolicy", `{"SecretId":"s"}`},
			{"east", "DescribeSecret", `{"SecretId":"s"}`},
			{"east", "DescribeSecret", `{"SecretId":"rds!db-1"}`},
			{"east", "ListSecrets", `{"MaxResults":1}`},
			{"east", "ListSecrets", `{}`},
			{"east", "CancelRotateSecret", `{"SecretId":"s"}`},
			{"east", "ReplicateSecretToRegions", `{"SecretId":"s","AddReplicaRegions":[{"Region":"ap-south-1"}]}`},
			{"east", "ReplicateSecretToRegions", `{"SecretId":"taken","AddReplicaRegions":[{"Region":"eu-west-1"}]}`},
			{"east", "ReplicateSecretToRegions", `{"SecretId":"taken","AddReplicaRegions":[{"Region":"eu-north-1"}]}`},
			{"east", "RemoveRegionsFromReplication", `{"SecretId":"s","RemoveReplicaRegions":["ap-south-1"]}`},
			{"east", "RemoveRegionsFromReplication", `{"SecretId":"taken","RemoveReplicaRegions":["ap-south-1"]}`},
			{"west", "StopReplicationToReplica", `{"SecretId":"s"}`},
			{"east", "DeleteSecret", `{"SecretId":"s"}`},
			{"east", "DescribeSecret", `{"SecretId":"s"}`},
			{"east", "ListSecrets", `{"IncludePlannedDeletion":true}`},
			{"east", "RestoreSecret", `{"SecretId":"s"}`},
			{"east", "GetRandomPassword", `{}`},
		} {
			input := step.input
			if strings.Contains(input, "{current}") {
				out, err := invoke(t, clients[step.region], "GetSecretValue", `{"SecretId":"s"}`)
				if err != nil {
					t.Fatal(err)
				}
				input = strings.ReplaceAll(input, "{current}", *out.(*sm.GetSecretValueOutput).VersionId)
			}
			out, err := invoke(t, clients[step.region], step.operation, input)
			if err != nil {
				t.Fatalf("%s %s: %v", step.operation, input, err)
			}
			note(filled, step.operation+"Output", reflect.ValueOf(out).Elem())
			if step.operation == "RotateSecret" {
				if err := srv.Wait(t.Context(), "s"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
	})
	for _, field := range slices.Sorted(maps.Keys(filled)) {
		switch reason, never := whyNever(field); {
		case filled[field] && never:
			t.Errorf("%s is filled: take it off the list (%s)", field, reason)
		case !filled[field] && !never:
			t.Errorf("%s is never filled", field)
		}
	}
	for field := range neverFilled {
		if _, ok := filled[field]; !ok {
			t.Errorf("there is no %s", field)
		}
	}
	for _, operation := range operations() {
		if prefix := operation + "Output."; !slices.ContainsFunc(slices.Collect(maps.Keys(filled)), func(f string) bool { return strings.HasPrefix(f, prefix) }) &&
			operation != "TagResource" && operation != "UntagResource" {
			t.Errorf("the scenario has no %s", operation)
		}
	}
}

// whyNever returns the reason why a field, or what it is a part of, is never filled.
func whyNever(field string) (reason string, never bool) {
	for {
		if reason, never = neverFilled[field]; never {
			return reason, true
		}
		i := strings.LastIndexByte(field, '.')
		if i < 0 {
			return "", false
		}
		field = field[:i]
	}
}

// note notes which fields below a struct are filled.
func note(filled map[string]bool, path string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" {
			continue
		}
		at := path + "." + f.Name
		filled[at] = filled[at] || !v.Field(i).IsZero()
		noteBelow(filled, at, v.Field(i))
	}
}

func noteBelow(filled map[string]bool, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != reflect.TypeFor[time.Time]() {
			below := v
			if v.IsNil() {
				below = reflect.New(v.Type().Elem())
			}
			note(filled, path, below.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return
		}
		if v.Len() == 0 {
			note(filled, path, reflect.New(v.Type().Elem()).Elem())
		}
		for i := range v.Len() {
			note(filled, path, v.Index(i))
		}
	}
}

// justRotate is a rotation function with nothing behind it.
func justRotate(ctx context.Context, c *sm.Client, raw []byte) error {
	var e struct{ Step, SecretId, ClientRequestToken string }
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	switch e.Step {
	case "createSecret":
		_, err := c.PutSecretValue(ctx, &sm.PutSecretValueInput{
			SecretId: &e.SecretId, ClientRequestToken: &e.ClientRequestToken, SecretString: new("rotated"), VersionStages: []string{pend},
		})
		return err
	case "finishSecret":
		d, err := c.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &e.SecretId})
		if err != nil {
			return err
		}
		for id, stages := range d.VersionIdsToStages {
			if slices.Contains(stages, cur) {
				_, err := c.UpdateSecretVersionStage(ctx, &sm.UpdateSecretVersionStageInput{
					SecretId: &e.SecretId, VersionStage: new(cur), RemoveFromVersionId: &id, MoveToVersionId: &e.ClientRequestToken,
				})
				return err
			}
		}
		return fmt.Errorf("no version is %s", cur)
	}
	return nil
}
