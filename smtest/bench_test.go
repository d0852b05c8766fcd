package smtest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

// BenchmarkGetSecretValue measures what a read costs: "server" beside "canned", the
// same SDK client over an HTTP client that answers with fixed bytes, is the
// server's share.
func BenchmarkGetSecretValue(b *testing.B) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"username":"app","password":"one","host":"db.example.com","port":5432}`)
	answer := raw(srv, "GetSecretValue", `{"SecretId":"prod/db"}`)
	canned := srv.Client(func(o *sm.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
			return &http.Response{
				Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Header: answer.Header(), ContentLength: int64(answer.Body.Len()),
				Body: io.NopCloser(bytes.NewReader(answer.Body.Bytes())), Request: r,
			}, nil
		})
	})
	for name, c := range map[string]*sm.Client{"canned": canned, "server": srv.Client()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			in := &sm.GetSecretValueInput{SecretId: aws.String("prod/db")}
			for b.Loop() {
				if _, err := c.GetSecretValue(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManySecrets makes 100,000 secrets and lists them all, page by page. It
// reports the memory that they hold and how long a page takes.
func BenchmarkManySecrets(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		before := heap()
		srv := smtest.New(nil)
		for i := range n {
			srv.Put("team/service-"+strconv.Itoa(i), fmt.Sprintf(`{"username":"app-%d","password":"correct-horse-battery-%d"}`, i, i))
		}
		b.ReportMetric(float64(heap()-before)/1e6, "MB")
		seen := 0
		for pages := sm.NewListSecretsPaginator(srv.Client(), &sm.ListSecretsInput{}); pages.HasMorePages(); {
			page, err := pages.NextPage(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			seen += len(page.SecretList)
		}
		if seen != n {
			b.Fatalf("%d secrets listed, want %d", seen, n)
		}
		srv.Close()
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
