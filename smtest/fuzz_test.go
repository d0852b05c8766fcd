package smtest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

// required are the operations with the members that a request must have. Source: the
// API Reference; ClientRequestToken is required of those who do not use an SDK, which
// fills it in.
var required = map[string][]string{
	"BatchGetSecretValue":          {},
	"CancelRotateSecret":           {"SecretId"},
	"CreateSecret":                 {"Name", "ClientRequestToken"},
	"DeleteResourcePolicy":         {"SecretId"},
	"DeleteSecret":                 {"SecretId"},
	"DescribeSecret":               {"SecretId"},
	"GetRandomPassword":            {},
	"GetResourcePolicy":            {"SecretId"},
	"GetSecretValue":               {"SecretId"},
	"ListSecretVersionIds":         {"SecretId"},
	"ListSecrets":                  {},
	"PutResourcePolicy":            {"SecretId", "ResourcePolicy"},
	"PutSecretValue":               {"SecretId", "ClientRequestToken"},
	"RemoveRegionsFromReplication": {"SecretId", "RemoveReplicaRegions"},
	"ReplicateSecretToRegions":     {"SecretId", "AddReplicaRegions"},
	"RestoreSecret":                {"SecretId"},
	"RotateSecret":                 {"SecretId", "ClientRequestToken"},
	"StopReplicationToReplica":     {"SecretId"},
	"TagResource":                  {"SecretId", "Tags"},
	"UntagResource":                {"SecretId", "TagKeys"},
	"UpdateSecret":                 {"SecretId", "ClientRequestToken"},
	"UpdateSecretVersionStage":     {"SecretId", "VersionStage"},
	"ValidateResourcePolicy":       {"ResourcePolicy"},
}

// fuzzBodies are where the fuzzer starts: for each operation a request that succeeds,
// and some that ask for trouble.
var fuzzBodies = map[string][]string{
	"BatchGetSecretValue":          {`{"SecretIdList":["s","none"]}`, `{"Filters":[{"Key":"all","Values":["!s"]}],"MaxResults":1}`, `{"SecretIdList":["","s"],"Filters":null}`},
	"CancelRotateSecret":           {`{"SecretId":"s"}`},
	"CreateSecret":                 {`{"Name":"new","SecretString":"x",TOKEN}`, `{"Name":"new","SecretBinary":"AAEC",TOKEN,"Tags":[{}],"AddReplicaRegions":[{"Region":"eu-west-1"}]}`},
	"DeleteResourcePolicy":         {`{"SecretId":"s"}`},
	"DeleteSecret":                 {`{"SecretId":"s"}`, `{"SecretId":"s","RecoveryWindowInDays":9223372036854775807}`, `{"SecretId":"-","ForceDeleteWithoutRecovery":true}`},
	"DescribeSecret":               {`{"SecretId":"s"}`, `{"SecretId":"arn:aws:secretsmanager:us-east-1:123456789012:secret:-------"}`},
	"GetRandomPassword":            {`{}`, `{"PasswordLength":0,"ExcludeCharacters":"\ud800"}`, `{"PasswordLength":4,"ExcludeLowercase":true,"IncludeSpace":true}`},
	"GetResourcePolicy":            {`{"SecretId":"s"}`},
	"GetSecretValue":               {`{"SecretId":"s"}`, `{"SecretId":"s","VersionId":"x","VersionStage":"y"}`, `{"SecretId":"s","SecretId":1}`, `{"SecretId":"s","VersionStage":1}`, `{"secretId":"s"}`, `null`, `[]`},
	"ListSecretVersionIds":         {`{"SecretId":"s","IncludeDeprecated":true}`, `{"SecretId":"s","MaxResults":-1,"NextToken":"-1"}`},
	"ListSecrets":                  {`{"Filters":[{"Key":"name","Values":["s"]}],"SortOrder":"asc","IncludePlannedDeletion":true}`, `{"NextToken":"eyJ9","SortBy":"name"}`},
	"PutResourcePolicy":            {`{"SecretId":"s","ResourcePolicy":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}]}"}`, `{"SecretId":"s","ResourcePolicy":"{\"Statement\":{\"Condition\":[]}}"}`},
	"PutSecretValue":               {`{"SecretId":"s","SecretString":"x",TOKEN}`, `{"SecretId":"s","SecretString":"x",TOKEN,"VersionStages":["",null]}`},
	"RemoveRegionsFromReplication": {`{"SecretId":"s","RemoveReplicaRegions":["eu-west-1"]}`},
	"ReplicateSecretToRegions":     {`{"SecretId":"s","AddReplicaRegions":[{"Region":"eu-west-1","KmsKeyId":"alias/x"}],"ForceOverwriteReplicaSecret":true}`},
	"RestoreSecret":                {`{"SecretId":"s"}`},
	"RotateSecret":                 {`{"SecretId":"s",TOKEN,"RotationLambdaARN":"arn:aws:lambda:us-east-1:123456789012:function:f"}`, `{"SecretId":"s",TOKEN,"RotationLambdaARN":"arn:aws:lambda:us-east-1:123456789012:function:f","RotateImmediately":false,"RotationRules":{"ScheduleExpression":"cron(0 8 1 * ? *)","Duration":"2h"}}`},
	"StopReplicationToReplica":     {`{"SecretId":"s"}`},
	"TagResource":                  {`{"SecretId":"s","Tags":[{"Key":"k","Value":"v"}]}`},
	"UntagResource":                {`{"SecretId":"s","TagKeys":["k"]}`},
	"UpdateSecret":                 {`{"SecretId":"s","Description":"d",TOKEN}`, `{"SecretId":"s","SecretString":"x","KmsKeyId":"",TOKEN}`},
	"UpdateSecretVersionStage":     {`{"SecretId":"s","VersionStage":"x","MoveToVersionId":"VERSION"}`, `{"SecretId":"s","VersionStage":"AWSCURRENT","MoveToVersionId":"x","RemoveFromVersionId":"y"}`},
	"ValidateResourcePolicy":       {`{"ResourcePolicy":"{\"Version\":\"2012-10-17\",\"Statement\":[]}"}`},
}

const (
	fuzzToken = `"ClientRequestToken":"0123456789abcdef0123456789abcdef"`
	fuzzMedia = "application/x-amz-json-1.1"
	fuzzScope = "AWS4-HMAC-SHA256 Credential=AKIASMTEST/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=0"
)

func fuzzBody(body string) string { return strings.ReplaceAll(body, "TOKEN", fuzzToken) }

// FuzzServeHTTP sends requests of all kinds to a server. It does not panic, it answers
// as the protocol has it, with no value in an error, and with 200 only for a request
// that is one: see fuzzValid, which knows the API by the SDK's types. What it has made
// of its state it can save and load.
//
//	go test ./smtest -run '^$' -fuzz FuzzServeHTTP -fuzztime 60s
func FuzzServeHTTP(f *testing.F) {
	for operation, bodies := range fuzzBodies {
		for _, body := range bodies {
			f.Add(http.MethodPost, "/", "secretsmanager."+operation, fuzzMedia, fuzzScope, fuzzBody(body))
		}
	}
	f.Add(http.MethodGet, "/", "secretsmanager.ListSecrets", fuzzMedia, fuzzScope, `{}`)
	f.Add(http.MethodPost, "//", "secretsmanager.ListSecrets", fuzzMedia, fuzzScope, `{}`)
	f.Add(http.MethodPost, "/", "ListSecrets", fuzzMedia, fuzzScope, `{}`)
	f.Add(http.MethodPost, "/", "secretsmanager.ListSecrets", "application/json; x=", "Credential=////", `{}`)
	f.Add(http.MethodPost, "/", "secretsmanager.ListSecrets", fuzzMedia, "AWS4-HMAC-SHA256 Credential=x/y/zz-zzzz-1/,", `{} {}`)
	f.Fuzz(func(t *testing.T, method, path, target, media, authorization, body string) {
		srv := smtest.New(&smtest.Options{Journal: io.Discard})
		defer srv.Close()
		srv.Put("s", "sealed-value")
		srv.AddFunction("*", srv.KeepValue())
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path}
		r.Header = http.Header{"Content-Type": {media}, "X-Amz-Target": {target}, "Authorization": {authorization}}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)

		operation, _ := strings.CutPrefix(target, "secretsmanager.")
		parsed, _, _ := mime.ParseMediaType(media)
		valid := method == http.MethodPost && path == "/" && operation != target && parsed == fuzzMedia && fuzzValid(operation, body)
		var answer map[string]any
		err := json.Unmarshal(w.Body.Bytes(), &answer)
		_, isError := answer["__type"].(string)
		switch {
		case err != nil || w.Header().Get("Content-Type") != fuzzMedia || w.Header().Get("X-Amzn-Requestid") == "":
			t.Errorf("%q %q: %d, headers %v, body %s", target, body, w.Code, w.Header(), w.Body)
		case w.Code == 200 && (!valid || isError):
			t.Errorf("%q %q %q %q %q: 200 %s", method, path, target, media, body, w.Body)
		case w.Code != 200 && (!isError || strings.Contains(w.Body.String(), "sealed-value")):
			t.Errorf("%q %q: %d %s", target, body, w.Code, w.Body)
		case w.Code != 200 && w.Code != 400 && w.Code != 413:
			t.Errorf("%q %q: status %d", target, body, w.Code)
		}
		srv.Close()
		var state bytes.Buffer
		if err := srv.Save(&state); err != nil {
			t.Fatal(err)
		}
		if err := smtest.New(nil).Load(&state); err != nil {
			t.Errorf("%q %q: %v", target, body, err)
		}
	})
}

// TestFuzzBodies sends the first request of each operation that the fuzzer starts
// with: all succeed, so that it does not only see errors.
func TestFuzzBodies(t *testing.T) {
	for m := range reflect.TypeFor[*sm.Client]().Methods() {
		if m.Type.NumIn() == 4 && required[m.Name] == nil {
			t.Errorf("%s is not in the list of operations", m.Name)
		}
	}
	for operation := range required {
		srv, c := newServer(t)
		create(t, c, "s", "VERSION", "x")
		srv.AddFunction("*", srv.KeepValue())
		body := strings.ReplaceAll(fuzzBody(fuzzBodies[operation][0]), `"VERSION"`, `"`+ver("VERSION")+`"`)
		var before []string
		switch operation {
		case "CancelRotateSecret":
			before = []string{"RotateSecret"}
		case "StopReplicationToReplica":
			continue // It succeeds in another Region.
		}
		for _, first := range before {
			raw(srv, first, fuzzBody(fuzzBodies[first][0]))
		}
		if w := raw(srv, operation, body); w.Code != 200 {
			t.Errorf("%s %s: %d %s", operation, body, w.Code, w.Body)
		}
		if !fuzzValid(operation, body) {
			t.Errorf("%s %s does not count as valid", operation, body)
		}
	}
}

// fuzzValid reports whether a body may be a request: a JSON object with the members
// that the operation requires, each of a type that the SDK has for it.
func fuzzValid(operation, body string) bool {
	need, known := required[operation]
	if !known {
		return false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &members) != nil || members == nil {
		return false
	}
	for _, name := range need {
		if raw := members[name]; raw == nil || string(raw) == "null" || string(raw) == `""` {
			return false
		}
	}
	method, _ := reflect.TypeFor[*sm.Client]().MethodByName(operation)
	return fuzzTyped([]byte(body), method.Type.In(2))
}

// fuzzTyped reports whether JSON fits a type of the SDK. Members count with their case.
func fuzzTyped(raw json.RawMessage, as reflect.Type) bool {
	if string(bytes.TrimSpace(raw)) == "null" {
		return true
	}
	switch as.Kind() {
	case reflect.Pointer:
		return fuzzTyped(raw, as.Elem())
	case reflect.String:
		var s string
		return json.Unmarshal(raw, &s) == nil
	case reflect.Bool:
		var b bool
		return json.Unmarshal(raw, &b) == nil
	case reflect.Int32, reflect.Int64:
		var n json.Number
		return json.Unmarshal(raw, &n) == nil && raw[0] != '"'
	case reflect.Slice:
		if as.Elem().Kind() == reflect.Uint8 {
			var s string
			if json.Unmarshal(raw, &s) != nil {
				return false
			}
			_, err := base64.StdEncoding.DecodeString(s)
			return err == nil
		}
		var elements []json.RawMessage
		if json.Unmarshal(raw, &elements) != nil {
			return false
		}
		for _, e := range elements {
			if !fuzzTyped(e, as.Elem()) {
				return false
			}
		}
		return true
	case reflect.Struct:
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return false
		}
		for name, m := range members {
			if f, ok := as.FieldByName(name); ok && f.IsExported() && !fuzzTyped(m, f.Type) {
				return false
			}
		}
		return true
	default:
		return true // The SDK's own, such as its metadata: no member of a request.
	}
}
