package smtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/smtest"
)

// invoke calls an operation of the SDK's client by name, with an input in JSON.
func invoke(t *testing.T, c *sm.Client, operation, input string) (output any, err error) {
	t.Helper()
	method := reflect.ValueOf(c).MethodByName(operation)
	if !method.IsValid() {
		t.Fatalf("the SDK has no operation %s", operation)
	}
	in := reflect.New(method.Type().In(1).Elem())
	d := json.NewDecoder(strings.NewReader(input))
	d.DisallowUnknownFields()
	if err := d.Decode(in.Interface()); err != nil {
		t.Fatalf("%s %s: %v", operation, input, err)
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
	if err, ok := reflect.TypeAssert[error](out[1]); ok {
		return nil, err
	}
	return out[0].Interface(), nil
}

// operations returns the names of the SDK's operations.
func operations() []string {
	var out []string
	client := reflect.TypeFor[*sm.Client]()
	for m := range client.Methods() {
		if m.Type.NumIn() == 4 && m.Type.In(2).Kind() == reflect.Pointer && strings.HasSuffix(m.Type.In(2).Elem().Name(), "Input") {
			out = append(out, m.Name)
		}
	}
	return out
}

// Every operation of the SDK is there.
func TestAllOperations(t *testing.T) {
	srv, _ := newServer(t)
	all := operations()
	if len(all) != 23 {
		t.Errorf("the SDK has %d operations, want 23: %v", len(all), all)
	}
	for _, operation := range all {
		if w := raw(srv, operation, "{}"); strings.Contains(w.Body.String(), "UnknownOperation") {
			t.Errorf("%s: %s", operation, w.Body)
		}
	}
}

// documented are the exceptions of each operation in the API Reference, but for
// InternalServiceError, which all have.
var documented = map[string]string{
	"BatchGetSecretValue":          "ResourceNotFoundException InvalidParameterException InvalidRequestException DecryptionFailure InvalidNextTokenException",
	"CancelRotateSecret":           "ResourceNotFoundException InvalidParameterException InvalidRequestException",
	"CreateSecret":                 "InvalidParameterException InvalidRequestException LimitExceededException EncryptionFailure ResourceExistsException ResourceNotFoundException MalformedPolicyDocumentException PreconditionNotMetException DecryptionFailure",
	"DeleteResourcePolicy":         "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"DeleteSecret":                 "ResourceNotFoundException InvalidParameterException InvalidRequestException",
	"DescribeSecret":               "ResourceNotFoundException InvalidParameterException",
	"GetRandomPassword":            "InvalidParameterException InvalidRequestException",
	"GetResourcePolicy":            "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"GetSecretValue":               "ResourceNotFoundException InvalidParameterException InvalidRequestException DecryptionFailure",
	"ListSecretVersionIds":         "InvalidNextTokenException ResourceNotFoundException InvalidParameterException",
	"ListSecrets":                  "InvalidParameterException InvalidNextTokenException InvalidRequestException",
	"PutResourcePolicy":            "MalformedPolicyDocumentException ResourceNotFoundException InvalidParameterException InvalidRequestException PublicPolicyException",
	"PutSecretValue":               "InvalidParameterException InvalidRequestException LimitExceededException EncryptionFailure ResourceExistsException ResourceNotFoundException DecryptionFailure",
	"RemoveRegionsFromReplication": "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"ReplicateSecretToRegions":     "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"RestoreSecret":                "ResourceNotFoundException InvalidParameterException InvalidRequestException",
	"RotateSecret":                 "ResourceNotFoundException InvalidParameterException InvalidRequestException",
	"StopReplicationToReplica":     "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"TagResource":                  "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"UntagResource":                "ResourceNotFoundException InvalidRequestException InvalidParameterException",
	"UpdateSecret":                 "InvalidParameterException InvalidRequestException LimitExceededException EncryptionFailure ResourceExistsException ResourceNotFoundException MalformedPolicyDocumentException PreconditionNotMetException DecryptionFailure",
	"UpdateSecretVersionStage":     "ResourceNotFoundException InvalidParameterException InvalidRequestException LimitExceededException",
	"ValidateResourcePolicy":       "MalformedPolicyDocumentException ResourceNotFoundException InvalidParameterException InvalidRequestException",
}

// Documented exceptions that no request to this server brings about, because nobody
// has recorded what does so at AWS, and why. A Fault brings them about.
var onlyByFault = map[string]string{
	"BatchGetSecretValue ResourceNotFoundException":    "a secret that is not found is in the answer's Errors",
	"BatchGetSecretValue InvalidRequestException":      "a secret that is deleted is in the answer's Errors",
	"BatchGetSecretValue DecryptionFailure":            "a secret that cannot be decrypted is in the answer's Errors",
	"CreateSecret LimitExceededException":              "there is no quota of secrets here",
	"CreateSecret ResourceNotFoundException":           "there is nothing to find",
	"CreateSecret MalformedPolicyDocumentException":    "no policy is passed",
	"CreateSecret PreconditionNotMetException":         "the prerequisites are not documented",
	"CreateSecret DecryptionFailure":                   "nothing is decrypted",
	"DescribeSecret InvalidParameterException":         "what is invalid is a ValidationException",
	"GetRandomPassword InvalidRequestException":        "no state forbids a password",
	"GetResourcePolicy InvalidParameterException":      "what is invalid is a ValidationException",
	"GetSecretValue InvalidParameterException":         "what is invalid is a ValidationException",
	"ListSecretVersionIds InvalidParameterException":   "what is invalid is a ValidationException",
	"ListSecrets InvalidRequestException":              "no state forbids a list",
	"PutSecretValue DecryptionFailure":                 "nothing is decrypted",
	"RestoreSecret InvalidRequestException":            "every state allows it",
	"UpdateSecret MalformedPolicyDocumentException":    "no policy is passed",
	"UpdateSecret PreconditionNotMetException":         "the prerequisites are not documented",
	"UpdateSecret DecryptionFailure":                   "a disabled key fails to encrypt first",
	"ValidateResourcePolicy InvalidParameterException": "what is invalid is a ValidationException",
}

// Each documented exception of each operation reaches the SDK's client as the type
// that the SDK has for it.
func TestExceptions(t *testing.T) {
	const (
		token    = `"ClientRequestToken":"0123456789abcdef0123456789abcdef"`
		none     = `{"SecretId":"none"`
		deleted  = `{"SecretId":"deleted"`
		replica  = `{"SecretId":"replica"`
		s        = `{"SecretId":"s"`
		policy   = `,"ResourcePolicy":"{\"Version\":\"2012-10-17\",\"Statement\":[]}"`
		public   = `,"BlockPublicPolicy":true,"ResourcePolicy":"{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}"`
		bad      = `,"ResourcePolicy":"x"`
		value    = `,"SecretString":"x"`
		tagged   = `,"Tags":[{"Key":"k","Value":"v"}]`
		keys     = `,"TagKeys":["k"]`
		south    = `,"AddReplicaRegions":[{"Region":"ap-south-1"}]`
		remove   = `,"RemoveReplicaRegions":["ap-south-1"]`
		function = `,"RotationLambdaARN":"` + functionARN + `"`
		stage    = `,"VersionStage":"x","MoveToVersionId":"0123456789abcdef0123456789abcdef"`
	)
	causes := map[string]string{
		"BatchGetSecretValue InvalidParameterException": `{}`,
		"BatchGetSecretValue InvalidNextTokenException": `{"Filters":[{"Key":"name","Values":["s"]}],"NextToken":"x"}`,

		"CancelRotateSecret ResourceNotFoundException": none + `}`,
		"CancelRotateSecret InvalidParameterException": replica + `}`,
		"CancelRotateSecret InvalidRequestException":   s + `}`,

		"CreateSecret InvalidParameterException": `{"Name":"new","AddReplicaRegions":[{"Region":"us-east-1"}]}`,
		"CreateSecret InvalidRequestException":   `{"Name":"deleted"}`,
		"CreateSecret EncryptionFailure":         `{"Name":"new","KmsKeyId":"` + keyARN + `","SecretString":"x"}`,
		"CreateSecret ResourceExistsException":   `{"Name":"s"}`,

		"DeleteResourcePolicy ResourceNotFoundException": none + `}`,
		"DeleteResourcePolicy InvalidRequestException":   deleted + `}`,
		"DeleteResourcePolicy InvalidParameterException": replica + `}`,

		"DeleteSecret ResourceNotFoundException": none + `}`,
		"DeleteSecret InvalidParameterException": s + `,"RecoveryWindowInDays":6}`,
		"DeleteSecret InvalidRequestException":   deleted + `}`,

		"DescribeSecret ResourceNotFoundException": none + `}`,

		"GetRandomPassword InvalidParameterException": `{"PasswordLength":3}`,

		"GetResourcePolicy ResourceNotFoundException": none + `}`,
		"GetResourcePolicy InvalidRequestException":   deleted + `}`,

		"GetSecretValue ResourceNotFoundException": none + `}`,
		"GetSecretValue InvalidRequestException":   deleted + `}`,
		"GetSecretValue DecryptionFailure":         `{"SecretId":"locked"}`,

		"ListSecretVersionIds InvalidNextTokenException": s + `,"NextToken":"x"}`,
		"ListSecretVersionIds ResourceNotFoundException": none + `}`,

		"ListSecrets InvalidParameterException": `{"Filters":[{"Key":"name"}]}`,
		"ListSecrets InvalidNextTokenException": `{"NextToken":"x"}`,

		"PutResourcePolicy MalformedPolicyDocumentException": s + bad + `}`,
		"PutResourcePolicy ResourceNotFoundException":        none + policy + `}`,
		"PutResourcePolicy InvalidParameterException":        replica + policy + `}`,
		"PutResourcePolicy InvalidRequestException":          deleted + policy + `}`,
		"PutResourcePolicy PublicPolicyException":            s + public + `}`,

		"PutSecretValue InvalidParameterException": replica + value + `}`,
		"PutSecretValue InvalidRequestException":   deleted + value + `}`,
		"PutSecretValue LimitExceededException":    `{"SecretId":"full","SecretString":"x"}`,
		"PutSecretValue EncryptionFailure":         `{"SecretId":"locked","SecretString":"x"}`,
		"PutSecretValue ResourceExistsException":   s + value + `,` + token + `}`,
		"PutSecretValue ResourceNotFoundException": none + value + `}`,

		"RemoveRegionsFromReplication ResourceNotFoundException": none + remove + `}`,
		"RemoveRegionsFromReplication InvalidRequestException":   deleted + remove + `}`,
		"RemoveRegionsFromReplication InvalidParameterException": replica + remove + `}`,

		"ReplicateSecretToRegions ResourceNotFoundException": none + south + `}`,
		"ReplicateSecretToRegions InvalidRequestException":   deleted + south + `}`,
		"ReplicateSecretToRegions InvalidParameterException": replica + south + `}`,

		"RestoreSecret ResourceNotFoundException": none + `}`,
		"RestoreSecret InvalidParameterException": replica + `}`,

		"RotateSecret ResourceNotFoundException": none + function + `}`,
		"RotateSecret InvalidParameterException": replica + function + `}`,
		"RotateSecret InvalidRequestException":   s + `}`,

		"StopReplicationToReplica ResourceNotFoundException": none + `}`,
		"StopReplicationToReplica InvalidRequestException":   deleted + `}`,
		"StopReplicationToReplica InvalidParameterException": s + `}`,

		"TagResource ResourceNotFoundException": none + tagged + `}`,
		"TagResource InvalidRequestException":   deleted + tagged + `}`,
		"TagResource InvalidParameterException": replica + tagged + `}`,

		"UntagResource ResourceNotFoundException": none + keys + `}`,
		"UntagResource InvalidRequestException":   deleted + keys + `}`,
		"UntagResource InvalidParameterException": replica + keys + `}`,

		"UpdateSecret InvalidParameterException": replica + value + `}`,
		"UpdateSecret InvalidRequestException":   `{"SecretId":"rds!db-1","Description":"x"}`,
		"UpdateSecret LimitExceededException":    `{"SecretId":"full","SecretString":"x"}`,
		"UpdateSecret EncryptionFailure":         `{"SecretId":"locked","SecretString":"x"}`,
		"UpdateSecret ResourceExistsException":   s + value + `,` + token + `}`,
		"UpdateSecret ResourceNotFoundException": none + `}`,

		"UpdateSecretVersionStage ResourceNotFoundException": none + stage + `}`,
		"UpdateSecretVersionStage InvalidParameterException": s + `,"VersionStage":"AWSCURRENT"}`,
		"UpdateSecretVersionStage InvalidRequestException":   deleted + stage + `}`,
		"UpdateSecretVersionStage LimitExceededException":    `{"SecretId":"full"` + stage + `}`,

		"ValidateResourcePolicy MalformedPolicyDocumentException": `{"ResourcePolicy":"x"}`,
		"ValidateResourcePolicy ResourceNotFoundException":        none + policy + `}`,
		"ValidateResourcePolicy InvalidRequestException":          deleted + policy + `}`,
	}
	srv := exceptionalServer(t)
	c := client(srv)
	for _, operation := range operations() {
		for _, code := range append(strings.Fields(documented[operation]), "InternalServiceError") {
			name := operation + " " + code
			input, caused := causes[name]
			if _, byFault := onlyByFault[name]; byFault == caused && code != "InternalServiceError" {
				t.Errorf("%s: is it caused by a request, or not?", name)
			}
			remove := func() {}
			if !caused {
				status := 0
				if code == "InternalServiceError" {
					status = 500
				}
				input = minimal[operation]
				remove = srv.Inject(smtest.Fault{Operation: operation, Err: &smtest.Error{Code: code, Message: "because", Status: status}})
			}
			_, err := invoke(t, c, operation, input)
			remove()
			wantException(t, name, err, code)
		}
	}
}

// wantException checks that err is the SDK's own type for the code.
func wantException(t *testing.T, name string, err error, code string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || fmt.Sprintf("%T", api) != "*types."+code || api.ErrorMessage() == "" {
		t.Errorf("%s: %v (%T)", name, err, api)
		return
	}
	want := 400
	if code == "InternalServiceError" {
		want = 500
	}
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || answer.HTTPStatusCode() != want {
		t.Errorf("%s: status %d, want %d", name, answer.HTTPStatusCode(), want)
	}
}

// minimal are inputs that pass the SDK's own checks.
var minimal = map[string]string{
	"BatchGetSecretValue":          `{}`,
	"CancelRotateSecret":           `{"SecretId":"s"}`,
	"CreateSecret":                 `{"Name":"new"}`,
	"DeleteResourcePolicy":         `{"SecretId":"s"}`,
	"DeleteSecret":                 `{"SecretId":"s"}`,
	"DescribeSecret":               `{"SecretId":"s"}`,
	"GetRandomPassword":            `{}`,
	"GetResourcePolicy":            `{"SecretId":"s"}`,
	"GetSecretValue":               `{"SecretId":"s"}`,
	"ListSecretVersionIds":         `{"SecretId":"s"}`,
	"ListSecrets":                  `{}`,
	"PutResourcePolicy":            `{"SecretId":"s","ResourcePolicy":"{}"}`,
	"PutSecretValue":               `{"SecretId":"s"}`,
	"RemoveRegionsFromReplication": `{"SecretId":"s","RemoveReplicaRegions":[]}`,
	"ReplicateSecretToRegions":     `{"SecretId":"s","AddReplicaRegions":[]}`,
	"RestoreSecret":                `{"SecretId":"s"}`,
	"RotateSecret":                 `{"SecretId":"s"}`,
	"StopReplicationToReplica":     `{"SecretId":"s"}`,
	"TagResource":                  `{"SecretId":"s","Tags":[]}`,
	"UntagResource":                `{"SecretId":"s","TagKeys":[]}`,
	"UpdateSecret":                 `{"SecretId":"s"}`,
	"UpdateSecretVersionStage":     `{"SecretId":"s","VersionStage":"x"}`,
	"ValidateResourcePolicy":       `{"ResourcePolicy":"{}"}`,
}

// exceptionalServer returns a server with a secret for every kind of trouble.
func exceptionalServer(t *testing.T) *smtest.Server {
	t.Helper()
	srv, c := newServer(t)
	const token = "0123456789abcdef0123456789abcdef"
	for _, in := range []struct{ operation, input string }{
		{"CreateSecret", `{"Name":"s","ClientRequestToken":"` + token + `","SecretString":"one"}`},
		{"CreateSecret", `{"Name":"deleted","SecretString":"one"}`},
		{"DeleteSecret", `{"SecretId":"deleted"}`},
		{"CreateSecret", `{"Name":"locked","KmsKeyId":"` + keyARN + `","SecretString":"one"}`},
		{"CreateSecret", `{"Name":"full","ClientRequestToken":"` + token + `","SecretString":"one"}`},
	} {
		if _, err := invoke(t, c, in.operation, in.input); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := invoke(t, srv.Client(inRegion("eu-west-1")), "CreateSecret",
		`{"Name":"replica","SecretString":"one","AddReplicaRegions":[{"Region":"us-east-1"}]}`); err != nil {
		t.Fatal(err)
	}
	for i := range 19 {
		if _, err := c.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
			SecretId: aws.String("full"), VersionStage: aws.String(fmt.Sprint("x", i)), MoveToVersionId: aws.String(token),
		}); err != nil {
			t.Fatal(err)
		}
	}
	srv.Put("rds!db-1", "managed")
	srv.AddKey(smtest.Key{ARN: keyARN, Disabled: true})
	return srv
}
