package smtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// raw sends a request as the SDK would not, straight to the handler.
func raw(h http.Handler, operation, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager."+operation)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newServer(t)
		time.Sleep(1500 * time.Millisecond) // A bubble begins at 946684800, a whole second.
		id := srv.Put("s", "one")
		w := raw(srv, "GetSecretValue", `{"SecretId":"s","Unknown":[1]}`)
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("status %d, headers %v", w.Code, w.Header())
		}
		if id := w.Header().Get("X-Amzn-Requestid"); !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("request id %q", id)
		}
		body := regexp.MustCompile(`secret:s-\w{6}"`).ReplaceAllString(w.Body.String(), `secret:s-X"`)
		want := `{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:s-X","Name":"s","VersionId":"` + id +
			`","SecretString":"one","VersionStages":["AWSCURRENT"],"CreatedDate":946684801.500}`
		if body != want {
			t.Errorf("body\n got %s\nwant %s", body, want)
		}

		w = raw(srv, "DescribeSecret", `{"SecretId":"s"}`)
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for _, member := range []string{"ARN", "Name", "CreatedDate", "LastChangedDate", "LastAccessedDate", "VersionIdsToStages"} {
			if _, ok := got[member]; !ok {
				t.Errorf("DescribeSecret has no %s", member)
			}
			delete(got, member)
		}
		if len(got) != 0 {
			t.Errorf("DescribeSecret has members that were never set: %v", got)
		}
	})
}

func TestErrorAnswers(t *testing.T) {
	const token = `"ClientRequestToken":"0123456789abcdef0123456789abcdef"`
	const null = `{"__type":"ValidationException","message":"1 validation error detected: Value at 'secretId' failed to satisfy constraint: Member must not be null"}`
	const missing = `{"Message":"Secrets Manager can't find the specified secret.","__type":"ResourceNotFoundException"}`
	tooLong := func(member string, n int) string {
		return fmt.Sprintf(`{"__type":"ValidationException","message":"1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d"}`, member, n)
	}
	srv, _ := newServer(t)
	srv.Put("s", "secret-value")
	for _, tt := range []struct{ operation, body, want string }{
		{"GetSecretValue", `{"SecretId":"none"}`, `{"Message":"Secrets Manager can't find the specified secret.","__type":"ResourceNotFoundException"}`},
		{"GetSecretValue", `{}`, null},
		{"GetSecretValue", `{"secretid":"s"}`, null},
		{"GetSecretValue", `{"SecretId":null}`, null},
		{"GetSecretValue", `{"SecretId":1}`, `{"__type":"SerializationException","message":"The value of SecretId has the wrong type."}`},
		{"GetSecretValue", ``, `{"__type":"SerializationException"}`},
		{"GetSecretValue", `null`, `{"__type":"SerializationException"}`},
		{"GetSecretValue", `[]`, `{"__type":"SerializationException"}`},
		{"GetSecretValue", `{"SecretId":"s"} {}`, `{"__type":"SerializationException"}`},
		{"GetSecretValue", `{"SecretId":"s"`, `{"__type":"SerializationException"}`},
		{"GetSecretValues", `{"SecretId":"s"}`, `{"__type":"UnknownOperationException"}`},
		{"PutSecretValue", `{"SecretId":"s","SecretBinary":"secret-value"}`, `{"__type":"SerializationException","message":"The value of SecretBinary has the wrong type."}`},
		{"PutSecretValue", `{"SecretId":"s","SecretString":"x"}`, `{"Message":"You must provide a ClientRequestToken value. We recommend a UUID-type value.","__type":"InvalidRequestException"}`},
		{"CreateSecret", `{"Name":"new","SecretString":"x"}`, `{"Message":"You must provide a ClientRequestToken value. We recommend a UUID-type value.","__type":"InvalidRequestException"}`},
		{"RotateSecret", `{"SecretId":"s"}`, `{"Message":"You must provide a ClientRequestToken value. We recommend a UUID-type value.","__type":"InvalidParameterException"}`},
		{"PutSecretValue", `{"SecretId":"s","SecretString":"x","ClientRequestToken":"short"}`, `{"Message":"ClientRequestToken must be 32-64 characters long.","__type":"InvalidParameterException"}`},
		{"PutSecretValue", `{"SecretString":"x",` + token + `}`, null},
		{"CreateSecret", `{"SecretString":"x",` + token + `}`, strings.Replace(null, "secretId", "name", 1)},
		{"UpdateSecretVersionStage", `{"SecretId":"s"}`, strings.Replace(null, "secretId", "versionStage", 1)},
		{"GetSecretValue", `{"SecretId":"` + strings.Repeat("x", 2049) + `"}`, tooLong("secretId", 2048)},
		{"GetSecretValue", `{"SecretId":"s","VersionId":"` + strings.Repeat("x", 65) + `"}`, tooLong("versionId", 64)},
		{"GetSecretValue", `{"SecretId":"s","VersionStage":"` + strings.Repeat("x", 257) + `"}`, tooLong("versionStage", 256)},
		{"UpdateSecretVersionStage", `{"SecretId":"s","VersionStage":"` + strings.Repeat("x", 257) + `"}`, tooLong("versionStages", 256)},
		{"PutSecretValue", `{"SecretId":"s","SecretString":"x",` + token + `,"VersionStages":["a"` + strings.Repeat(`,"a"`, 20) + `]}`, tooLong("versionStages", 20)},
		{"PutSecretValue", `{"SecretId":"s","SecretString":"x",` + token + `,"RotationToken":"` + strings.Repeat("x", 257) + `"}`, tooLong("rotationToken", 256)},
		{"PutSecretValue", `{"SecretId":"s","SecretString":"x",` + token + `,"RotationToken":"short"}`, strings.Replace(tooLong("rotationToken", 36), "less", "greater", 1)},
		{"CreateSecret", `{"Name":"` + strings.Repeat("x", 513) + `",` + token + `}`, tooLong("name", 512)},
		{"CreateSecret", `{"Name":"new","Description":"` + strings.Repeat("x", 2049) + `",` + token + `}`, tooLong("description", 2048)},
		{"RotateSecret", `{"SecretId":"s","RotationLambdaARN":"` + strings.Repeat("x", 2049) + `",` + token + `}`, tooLong("rotationLambdaARN", 2048)},
		{"CreateSecret", `{"Name":"no name",` + token + `}`, `{"__type":"ValidationException","message":"Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"}`},
		{"CreateSecret", `{"Name":"new","SecretString":"",` + token + `}`, `{"Message":"You must provide either SecretString or SecretBinary.","__type":"InvalidRequestException"}`},
		{"DeleteSecret", `{"SecretId":"s","RecoveryWindowInDays":7,"ForceDeleteWithoutRecovery":true}`, `{"Message":"You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.","__type":"InvalidParameterException"}`},
		{"DeleteSecret", `{"SecretId":"s","RecoveryWindowInDays":31}`, `{"Message":"The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).","__type":"InvalidParameterException"}`},
		{"ListSecretVersionIds", `{"SecretId":"s","NextToken":"2"}`, `{"Message":"Invalid NextToken.","__type":"InvalidNextTokenException"}`},
		{"DescribeSecret", `{"SecretId":"none"}`, missing},
		{"PutSecretValue", `{"SecretId":"none","SecretString":"x",` + token + `}`, missing},
		{"UpdateSecretVersionStage", `{"SecretId":"none","VersionStage":"x"}`, missing},
		{"ListSecretVersionIds", `{"SecretId":"none"}`, missing},
		{"CancelRotateSecret", `{"SecretId":"none"}`, missing},
		{"DeleteSecret", `{"SecretId":"none"}`, missing},
		{"BatchGetSecretValue", `{}`, `{"Message":"Either 'SecretIdList' or 'Filters' must be provided, but not both.","__type":"InvalidParameterException"}`},
	} {
		w := raw(srv, tt.operation, tt.body)
		if got := sorted(t, w.Body.Bytes()); w.Code != 400 || got != tt.want {
			t.Errorf("%s %s\n got %d %s\nwant 400 %s", tt.operation, tt.body, w.Code, got, tt.want)
		}
	}
}

// sorted is a JSON object with its members in the order of their names.
func sorted(t *testing.T, body []byte) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestGarbage(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "secret-value")
	good := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"SecretId":"s"}`))
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
		return r
	}
	for name, tt := range map[string]struct {
		spoil func(*http.Request)
		want  int
	}{
		"nothing broken":   {func(*http.Request) {}, 200},
		"charset":          {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-amz-json-1.1; charset=utf-8") }, 200},
		"no target":        {func(r *http.Request) { r.Header.Del("X-Amz-Target") }, 400},
		"other service":    {func(r *http.Request) { r.Header.Set("X-Amz-Target", "AmazonSSM.GetSecretValue") }, 400},
		"no prefix":        {func(r *http.Request) { r.Header.Set("X-Amz-Target", "GetSecretValue") }, 400},
		"method":           {func(r *http.Request) { r.Method = http.MethodGet }, 400},
		"path":             {func(r *http.Request) { r.URL.Path = "/x" }, 400},
		"no content type":  {func(r *http.Request) { r.Header.Del("Content-Type") }, 400},
		"bad content type": {func(r *http.Request) { r.Header.Set("Content-Type", ";;") }, 400},
		"no body":          {func(r *http.Request) { r.Body = nil }, 400},
		"broken body":      {func(r *http.Request) { r.Body = io.NopCloser(brokenReader{}) }, 400},
		"long body":        {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Repeat(" ", 1<<20+1))) }, 413},
		"deep body":        {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Repeat("[", 1<<19))) }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := good(), httptest.NewRecorder()
			tt.spoil(r)
			srv.ServeHTTP(w, r)
			if w.Code != tt.want || w.Header().Get("X-Amzn-Requestid") == "" {
				t.Errorf("status %d, headers %v, body %s, want %d", w.Code, w.Header(), w.Body, tt.want)
			}
			if w.Code != 200 && strings.Contains(w.Body.String(), "secret-value") {
				t.Errorf("the answer shows the value: %s", w.Body)
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestOverASocket(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	web := httptest.NewServer(srv)
	defer web.Close()
	c := sm.New(sm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(web.URL), Credentials: aws.AnonymousCredentials{}, HTTPClient: web.Client(),
	})
	wantValue(t, c, "s", "one")
	_, err := read(t.Context(), c, "none")
	wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret.")
}
