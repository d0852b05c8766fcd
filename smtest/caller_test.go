package smtest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

const missing = "ResourceNotFoundException: Secrets Manager can't find the specified secret."

// inRegion is the SDK's own option for a client of another Region.
func inRegion(region string) func(*sm.Options) {
	return func(o *sm.Options) { o.Region = region }
}

// A name means another secret in each account and Region.
func TestAccountsAndRegions(t *testing.T) {
	srv, home := newServer(t)
	other := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::111122223333:user/app"})
	clients := map[string]*sm.Client{
		"us-east-1:123456789012": home,
		"eu-west-1:123456789012": srv.Client(inRegion("eu-west-1")),
		"us-east-1:111122223333": srv.Client(other),
		"eu-west-1:111122223333": srv.Client(other, inRegion("eu-west-1")),
	}
	for at, c := range clients {
		_, err := read(t.Context(), c, "s")
		wantError(t, err, missing)
		arn := create(t, c, "s", "a", at)
		if want := "arn:aws:secretsmanager:" + at + ":secret:s-"; !strings.HasPrefix(arn, want) {
			t.Errorf("ARN = %s, want %s...", arn, want)
		}
		wantValue(t, c, arn, at)
	}
	for at, c := range clients {
		wantValue(t, c, "s", at)
		wantValue(t, c, "arn:aws:secretsmanager:"+at+":secret:s", at)
	}
	srv.Put("s", "new")
	wantValue(t, home, "s", "new")
	d, err := clients["eu-west-1:111122223333"].DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
	if err != nil {
		t.Fatal(err)
	}
	srv.Put(*d.ARN, "new there")
	wantValue(t, clients["eu-west-1:111122223333"], "s", "new there")
	wantValue(t, home, "s", "new")
	_, err = read(t.Context(), home, *d.ARN)
	wantError(t, err, missing)
}

// The Region is the one of the credential scope, the caller the one of the access
// key; what cannot be read there is the server's own.
func TestCredentialScope(t *testing.T) {
	srv, _ := newServer(t)
	srv.AddCaller(smtest.Caller{ARN: "arn:aws-cn:sts::111122223333:assumed-role/app/session", AccessKeyID: "AKIDEXAMPLE00000"})
	const start = "AWS4-HMAC-SHA256 Credential="
	for i, tt := range []struct{ authorization, want string }{
		{start + "AKIDEXAMPLE00000/20260102/cn-north-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=x", "aws-cn:secretsmanager:cn-north-1:111122223333"},
		{start + "AKIDEXAMPLE00001/20260102/us-gov-west-1/secretsmanager/aws4_request,SignedHeaders=host", "aws-us-gov:secretsmanager:us-gov-west-1:123456789012"},
		{start + "AKIDEXAMPLE00000", "aws:secretsmanager:us-east-1:111122223333"},
		{start + "AKIDEXAMPLE00000/20260102/Mars/secretsmanager/aws4_request", "aws:secretsmanager:us-east-1:111122223333"},
		{start + "/20260102/us-east-x/secretsmanager/aws4_request", "aws:secretsmanager:us-east-1:123456789012"},
		{start + "/20260102/us-east1-1/secretsmanager/aws4_request", "aws:secretsmanager:us-east-1:123456789012"},
		{"Bearer x", "aws:secretsmanager:us-east-1:123456789012"},
		{"", "aws:secretsmanager:us-east-1:123456789012"},
	} {
		body := `{"Name":"s` + string(rune('a'+i)) + `","ClientRequestToken":"0123456789abcdef0123456789abcdef"}`
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "secretsmanager.CreateSecret")
		r.Header.Set("Authorization", tt.authorization)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"arn:`+tt.want+`:secret:s`) {
			t.Errorf("Authorization: %s\n got %s\nwant %s", tt.authorization, w.Body, tt.want)
		}
	}
}

func TestAddCallerPanics(t *testing.T) {
	srv, _ := newServer(t)
	const arn = "arn:aws:iam::123456789012:user/app"
	for want, c := range map[string]smtest.Caller{
		"": {ARN: arn, AccessKeyID: "AKIDEXAMPLE00000"},
		`smtest: add caller: "" is not the ARN of a user, of an account's root or of a role's session`:                                     {},
		`smtest: add caller: "arn:aws:iam::1:user/app" is not the ARN of a user, of an account's root or of a role's session`:              {ARN: "arn:aws:iam::1:user/app"},
		`smtest: add caller: "arn:aws:iam::123456789012:role/a" is not the ARN of a user, of an account's root or of a role's session`:     {ARN: "arn:aws:iam::123456789012:role/a"},
		`smtest: add caller: "arn:aws:iam::123456789012:user/app\n" is not the ARN of a user, of an account's root or of a role's session`: {ARN: arn + "\n"},
		`smtest: add caller: "short" is not an access key id`:                                                                              {ARN: arn, AccessKeyID: "short"},
	} {
		got := panics(func() { srv.AddCaller(c) })
		if want == "" && got != nil || want != "" && got != want {
			t.Errorf("AddCaller(%+v) panics with\n     %v\nwant %v", c, got, want)
		}
	}
}
