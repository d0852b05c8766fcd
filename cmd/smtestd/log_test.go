package main_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	main "github.com/keyturn/keyturn/cmd/smtestd"
)

// TestLog makes calls of several kinds: each has one line.
func TestLog(t *testing.T) {
	d := launch(t, "-access-key", "AKIAOTHERACCOUNT=111122223333", "-access-key", "AKIASMTESTDTESTS=arn:aws:iam::123456789012:user/app",
		"-region", "eu-west-1", "-account", "444455556666")
	c := d.client()
	if err := write(t.Context(), c, acknowledged{"prod/db", token("a"), "hunter2"}); err != nil {
		t.Fatal(err)
	}
	read(t, c, "prod/db")
	other := d.client(func(o *sm.Options) { o.Credentials, o.Region = keys("AKIAOTHERACCOUNT"), "us-west-2" })
	if _, err := other.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	anybody := d.client(func(o *sm.Options) { o.Credentials = aws.AnonymousCredentials{} })
	if _, err := anybody.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(d.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if status := d.terminate(); status != 0 {
		t.Errorf("status %d", status)
	}
	var got []string
	for line := range strings.Lines(d.stderr.String()) {
		if _, call, ok := strings.Cut(line, `msg="smtest: call" `); ok {
			got = append(got, regexp.MustCompile(`version_id=\S+`).ReplaceAllString(
				regexp.MustCompile(` duration=[0-9.]+(ns|µs|ms|s)\n`).ReplaceAllString(call, ""), "version_id=X"))
		}
	}
	app := " caller=arn:aws:iam::123456789012:user/app region=us-east-1"
	want := []string{
		`operation=PutSecretValue secret_id=prod/db stage=AWSCURRENT version_id=X code=ResourceNotFoundException` + app,
		`operation=CreateSecret secret_id=prod/db version_id=X` + app,
		`operation=GetSecretValue secret_id=prod/db stage=AWSCURRENT version_id=X` + app,
		`operation=CreateSecret secret_id=s caller=arn:aws:iam::111122223333:root region=us-west-2`,
		`operation=CreateSecret secret_id=s caller=arn:aws:sts::444455556666:assumed-role/app/i region=eu-west-1`,
		`method=GET code=UnknownOperationException caller=arn:aws:sts::444455556666:assumed-role/app/i region=eu-west-1`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("log\n%s\nwant\n%s\nall of it\n%s", g, w, d.stderr.String())
	}
}

// TestNoValueInOutput sends requests of every kind that have a value in them, where it
// belongs and everywhere else: it is in the data file alone.
func TestNoValueInOutput(t *testing.T) {
	const value = "hunter2-hunter2-hunter2-hunter2"
	encoded := base64.StdEncoding.EncodeToString([]byte(value))
	d := launch(t, "-data", filepath.Join(t.TempDir(), "data"), "-any-rotation-function", "-seed", file(t, `{"seeded": "`+value+`"}`))
	body := func(format string) string {
		return fmt.Sprintf(format, `"ClientRequestToken":"`+token("t")+`"`, value)
	}
	for _, operation := range []string{"CreateSecret", "PutSecretValue", "UpdateSecret", "GetSecretValue", "BatchGetSecretValue", "RotateSecret", "PutResourcePolicy", "ListSecrets", "TagResource", "DeleteSecret", "GetRandomPassword"} {
		for _, body := range []string{
			body(`{"Name":"s","SecretId":"s",%s,"SecretString":"%s"}`),
			body(`{"Name":"s","SecretId":"s",%s,"SecretString":"%s"`),
			body(`{"Name":"s","SecretId":"s",%s,"SecretString":["%s"]}`),
			body(`{"Name":"s","SecretId":"s",%s,"SecretString":{"password":"%s"}}`),
			body(`{"Name":"b","SecretId":"b",%s,"SecretBinary":"` + encoded + `"}`),
			body(`{"Name":"s","SecretId":"s",%s,"SecretBinary":"%s"}`),
			body(`{"Name":"%[2]s and more","SecretId":"%[2]s and more",%[1]s}`),
			body(`{"Name":{"%[2]s":1},"SecretId":["%[2]s"],%[1]s}`),
			body(`{"SecretId":"s","VersionStages":"%[2]s","VersionStage":{"a":"%[2]s"},"VersionId":["%[2]s"],%[1]s}`),
			body(`{"SecretId":"s","ResourcePolicy":"%[2]s","Tags":["%[2]s"],"Filters":[{"Key":"%[2]s","Values":["x"]}],"SecretIdList":["%[2]s!?"],%[1]s}`),
			body(`{"SecretId":"seeded","RotationLambdaARN":"%[2]s","RotationRules":{"ScheduleExpression":"%[2]s"},"RecoveryWindowInDays":"%[2]s",%[1]s}`),
			body(`{"SecretId":"seeded","NextToken":"%[2]s","SortBy":"%[2]s","ExcludeCharacters":"%[2]s","PasswordLength":-1,%[1]s}`),
			value, `"` + value + `"`, "",
		} {
			send(t, d, operation, body)
		}
	}
	host := strings.TrimPrefix(d.url, "http://")
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: secretsmanager." + value + "\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 0\r\n\r\n",
		"POST /" + value + "?" + value + "=" + value + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: " + value + "\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + value + "/20260101/" + value + "/secretsmanager/aws4_request\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: " + value + "\r\n" + value + ": " + value + "\r\nContent-Length: " + value + "\r\n\r\n",
		strings.ReplaceAll(value, "-", "") + " / HTTP/1.1\r\nHost: x\r\n\r\n",
		value + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: secretsmanager.PutSecretValue\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 1000\r\n\r\n{\"SecretString\":\"" + value,
		"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: secretsmanager.PutSecretValue\r\nContent-Type: application/x-amz-json-1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + value,
	} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	if status := d.terminate(); status != 0 {
		t.Errorf("status %d", status)
	}
	for line := range strings.Lines(d.stdout.String() + d.stderr.String()) {
		if strings.Contains(line, value) || strings.Contains(line, strings.ReplaceAll(value, "-", "")) || strings.Contains(line, encoded) {
			t.Errorf("the value is in the output: %s", line)
		}
	}
	if n := strings.Count(d.stderr.String(), "smtest: call"); n < 11*15 {
		t.Errorf("%d lines of calls", n)
	}
}

// send sends a request that nobody has checked.
func send(t *testing.T, d *daemon, operation, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager."+operation)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// TestPanic lets the API panic with a value: the log tells where, but not what with.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	h := main.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("hunter2") }), slog.New(slog.NewTextHandler(&log, nil)))
	web := httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&log, nil), slog.LevelWarn)
	web.Start()
	resp, err := http.Get(web.URL)
	if err == nil {
		resp.Body.Close()
		t.Errorf("the answer is %s", resp.Status)
	}
	web.Close()
	if got := log.String(); !strings.Contains(got, "type=string") || !strings.Contains(got, "TestPanic") || strings.Contains(got, "hunter2") {
		t.Errorf("the log is\n%s", got)
	}
	s := bufio.NewScanner(&log)
	for n := 0; s.Scan(); n++ {
		if n > 0 {
			t.Errorf("a second line: %s", s.Text())
		}
	}
}
