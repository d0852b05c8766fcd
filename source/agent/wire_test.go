package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/source/agent"
)

const (
	token = "t0ken-that-nobody-sees"
	value = "hunter2-that-nobody-sees"
)

// TestMain names a proxy that nothing may go through. Where it stands net/http looks
// once.
func TestMain(m *testing.M) {
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

// answering starts what listens in the agent's place.
func answering(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

func read(ctx context.Context, opts agent.Options) (*secretsmanager.GetSecretValueOutput, error) {
	if opts.Token == nil {
		opts.Token = fixed(token)
	}
	return agent.New(&opts).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
}

// hides reports an error that shows the token or the value, and so does what it
// wraps.
func hides(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, token) || strings.Contains(text, value) {
			t.Errorf("%T shows the token or the value: %s", err, text)
		}
	}
}

// Whatever answers, the error says what to do, is a passing one, and shows neither
// token nor value.
func TestOtherAnswers(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{400, "Forwarded", "X-Forwarded-For"},
		{400, "unknown parameter: secretId", "does not know a parameter"},
		{400, "not ready to serve traffic, please wait", "in the handler"},
		{400, "an unexpected error occurred while executing request", "its log says what failed"},
		{403, "Bad Token", "the token in Options.Token is not the agent's; set AWS_TOKEN"},
		{404, "Not found", "another program"},
		{405, "Not allowed", "another program"},
		{429, "Connection limit exceeded", "max_conn"},
		{503, "Serving not enabled. Hit the /start_serving endpoint to enable serving requests.", "/start_serving"},
		{500, "", "its log says why"},
		{500, `{"__type":"InternalFailure"}`, "InternalFailure: the agent could not read the secret; its log says why"},
		{502, `{"__type":"ConnectionError", "message":"Read Error"}`, "ConnectionError: Read Error: the agent does not reach Secrets Manager"},
		{504, `{"__type":"TimeoutError", "message":"Timeout"}`, "in time"},
		{400, `{"__type":"com.amazonaws.secretsmanager#ThrottlingException","Message":"Rate exceeded"}`, "error ThrottlingException: Rate exceeded"},
		{418, "teapot", "another program"},
		{200, "healthy", "is not a secret: not valid JSON (at byte 1)"},
		{200, `{"SecretString":{"password":"` + value + `"}}`, "cannot be decoded"},
		{200, `{"SecretBinary":"` + value + `"}`, "is not a secret"},
		{200, `{"SecretString":"` + value + `"`, "not valid JSON"},
		{200, `{"SecretString":"` + value + `","CreatedDate":"` + value + `"}`, "is not a secret"},
		{200, `{"SecretString":"` + value + `","CreatedDate":"NaN"}`, "is not a secret"},
		{200, strings.Repeat(value, 1<<16), "more than a secret can hold"},
	} {
		// As a careless program would, it sends back what it was sent.
		url := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
			if test.status != http.StatusOK && !strings.HasPrefix(test.body, "{") {
				_ = r.Header.Write(w)
			}
		})
		out, err := read(t.Context(), agent.Options{Endpoint: url})
		if err == nil {
			t.Errorf("%d %.40q: got %v, want an error", test.status, test.body, out)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d %.40q: error %q, want %q", test.status, test.body, err, test.want)
		}
		hides(t, err)
		c := newCache(t, agent.New(&agent.Options{Endpoint: url, Token: fixed(token)}), nil)
		var failed *cache.Error
		if _, err := c.Get(t.Context(), "prod/db"); !errors.As(err, &failed) || !failed.Transient {
			t.Errorf("%d %.40q: error %v, want a passing one", test.status, test.body, err)
		}
	}
}

// What is no HTTP server may send back anything.
func TestOtherProtocols(t *testing.T) {
	for _, answer := range []string{
		"", "220 ready\r\n", "HTTP/1.1 200 OK\r\nX: " + token, "HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n", token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + token, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat(token, 10_000),
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
		}()
		_, err = read(t.Context(), agent.Options{Endpoint: "http://" + listener.Addr().String()})
		if err == nil || !strings.HasPrefix(err.Error(), "agent: ") {
			t.Errorf("%.40q: error %v", answer, err)
		}
		hides(t, err)
		listener.Close()
		<-done
	}
}

// Nothing that a program holds or logs gives the token or the value away.
func TestNothingShows(t *testing.T) {
	t.Setenv("AWS_TOKEN", token)
	url := answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"SecretString":[%q]}`, value) })
	client := agent.New(&agent.Options{Endpoint: url})
	_, err := client.GetSecretValue(t.Context(), nil)
	if err == nil {
		t.Fatal("no error")
	}
	leaktest.Check(t, token, client)
	leaktest.Check(t, token, err)
	leaktest.Check(t, value, err)
}

// Dates come as text, as a number, or not at all.
func TestDates(t *testing.T) {
	want := time.Date(2024, 10, 21, 11, 21, 16, 851e6, time.UTC)
	for text, want := range map[string]*time.Time{
		`"1729509676.851"`: &want, `1729509676.851`: &want, `1.729509676851E9`: &want, `"1729509676.8510000705"`: &want, `"1729509676.8509998"`: &want, `null`: nil,
	} {
		url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"VersionId":"v","SecretString":"s","CreatedDate":%s}`, text)
		})
		out, err := read(t.Context(), agent.Options{Endpoint: url})
		if err != nil {
			t.Fatal(err)
		}
		if got := out.CreatedDate; (got == nil) != (want == nil) || got != nil && !got.Equal(*want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// The token goes to the agent and to nobody else.
func TestTokenDoesNotTravel(t *testing.T) {
	seen := make(chan string, 10)
	elsewhere := answering(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Host + r.URL.Path })
	everywhere, err := net.Listen("tcp", "0.0.0.0:0") // an address of this machine that is not a loopback one
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: everywhere, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Parameters-Secrets-Token") == token {
			fmt.Fprint(w, `{"VersionId":"v","SecretString":"s"}`)
		}
	})}}
	s.Start()
	t.Cleanup(s.Close)
	remote := fmt.Sprintf("http://0.0.0.0:%d", everywhere.Addr().(*net.TCPAddr).Port)
	redirect := answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})

	for _, test := range []struct {
		opts agent.Options
		want string // of the error
	}{
		{agent.Options{Endpoint: redirect}, "a redirect is not followed"},
		{agent.Options{Endpoint: "http://192.0.2.1:2773"}, "set Options.Remote"},
		{agent.Options{Endpoint: remote}, "set Options.Remote"},
		{agent.Options{Endpoint: remote, Remote: true}, ""},
		{agent.Options{Endpoint: "http://agent.invalid:2773", Remote: true}, "lookup agent.invalid"},
	} {
		_, err := read(t.Context(), test.opts)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: error %v, want %q", test.opts.Endpoint, err, test.want)
		}
	}
	close(seen)
	for who := range seen {
		t.Errorf("%s has got a request", who)
	}
}

// A caller that gives up is not kept waiting, by one who does not answer nor by one
// who does not end; and nothing is left running.
func TestCallerGivesUp(t *testing.T) {
	for name, sends := range map[string]string{"silent": "", "endless": `{"SecretString":"`} {
		gone := make(chan struct{})
		arrived := make(chan struct{})
		url := answering(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, sends)
			if sends != "" {
				_ = http.NewResponseController(w).Flush()
			}
			close(arrived)
			<-r.Context().Done()
			close(gone)
		})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { // outside of the caller's goroutine, as a deadline is
				<-arrived
				cancel()
			}()
			if _, err := read(ctx, agent.Options{Endpoint: url}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: error %v, want %v", name, err, context.Canceled)
			}
		})
		<-gone
	}
}

// A bubble ends when all its goroutines have: reads leave none behind.
func TestNothingIsLeft(t *testing.T) {
	s := start(t)
	s.Put("prod/db", "one")
	synctest.Test(t, func(t *testing.T) {
		client := s.client()
		for range 3 {
			if _, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")}); err != nil {
				t.Error(err)
			}
		}
	})
}
