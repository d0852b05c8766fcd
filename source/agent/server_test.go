package agent_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	awshttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/smtest"
)

// A server is the Secrets Manager Agent as its source says it is, over a socket and
// before a Secrets Manager in process.
type server struct {
	*smtest.Server
	t       *testing.T
	address string

	mu       sync.Mutex
	http     *httptest.Server
	token    string
	old      bool          // knows no refreshNow
	ttl      time.Duration // of its cache
	elapsed  time.Duration // its clock
	held     map[string]*held
	requests []string // queries, in the order of arrival
}

// A held is what the agent's cache has under one query.
type held struct {
	out  *secretsmanager.GetSecretValueOutput
	read time.Duration
}

// start starts an agent with the default TTL and the token "token".
func start(t *testing.T) *server {
	t.Helper()
	s := &server{Server: smtest.New(nil), t: t, ttl: 300 * time.Second, address: "127.0.0.1:0"}
	t.Cleanup(s.Close)
	s.restart("token")
	t.Cleanup(s.stop)
	return s
}

// restart starts the agent, again at the same address, with nothing in its cache.
func (s *server) restart(token string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address, s.token, s.held = listener.Addr().String(), token, make(map[string]*held)
	s.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(s.serve)}}
	s.http.Start()
}

// stop stops the agent, but not the Secrets Manager behind it.
func (s *server) stop() { s.http.Close() }

// advance moves the agent's clock.
func (s *server) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elapsed += d
}

// setOld makes the agent one that knows no refreshNow, or one that does.
func (s *server) setOld(old bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = old
}

// asked returns the queries so far, and forgets them.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.requests
	s.requests = nil
	return asked
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.RawQuery)
	token := s.token
	s.mu.Unlock()
	switch {
	case r.Header.Get("X-Forwarded-For") != "":
		plain(w, http.StatusBadRequest, "Forwarded")
	case r.Header.Get("X-Aws-Parameters-Secrets-Token") != token:
		plain(w, http.StatusForbidden, "Bad Token")
	case r.Method != http.MethodGet:
		plain(w, http.StatusMethodNotAllowed, "Not allowed")
	case r.URL.Path != "/secretsmanager/get":
		plain(w, http.StatusNotFound, "Not found")
	default:
		s.get(w, r)
	}
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	known := []string{"secretId", "versionId", "versionStage", "refreshNow"}
	s.mu.Lock()
	if s.old {
		known = known[:3]
	}
	s.mu.Unlock()
	in, query := new(secretsmanager.GetSecretValueInput), r.URL.Query()
	for name := range query {
		if !slices.Contains(known, name) {
			plain(w, http.StatusBadRequest, "unknown parameter: "+name)
			return
		}
	}
	if query.Get("secretId") == "" {
		plain(w, http.StatusBadRequest, "missing parameter secretId")
		return
	}
	in.SecretId = aws.String(query.Get("secretId"))
	if query.Has("versionId") {
		in.VersionId = aws.String(query.Get("versionId"))
	}
	if query.Has("versionStage") {
		in.VersionStage = aws.String(query.Get("versionStage"))
	}
	out, err := s.fetch(r.Context(), in, query.Get("refreshNow") == "true")
	if err != nil {
		fail(w, err)
		return
	}
	write(w, out)
}

// fetch answers from the cache, if what is there is young enough, or else still what
// DescribeSecret says.
func (s *server) fetch(ctx context.Context, in *secretsmanager.GetSecretValueInput, refresh bool) (*secretsmanager.GetSecretValueOutput, error) {
	client := s.Client(func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 })
	key := strings.Join([]string{*in.SecretId, aws.ToString(in.VersionId), aws.ToString(in.VersionStage)}, "|")
	s.mu.Lock()
	h, now, ttl := s.held[key], s.elapsed, s.ttl
	s.mu.Unlock()
	if h != nil && !refresh && now-h.read <= ttl {
		return h.out, nil
	}
	if h != nil && !refresh {
		described, err := client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: h.out.ARN})
		stage := "AWSCURRENT"
		if in.VersionStage != nil {
			stage = *in.VersionStage
		}
		switch {
		case is5xx(err): // what is held will do, and counts as fresh
		case err != nil:
			return nil, err
		case !slices.Contains(described.VersionIdsToStages[*h.out.VersionId], stage):
			h = nil
		}
		if h != nil {
			s.keep(key, &held{h.out, now})
			return h.out, nil
		}
	}
	out, err := client.GetSecretValue(ctx, in)
	if err != nil {
		return nil, err
	}
	s.keep(key, &held{out, now})
	return out, nil
}

func (s *server) keep(key string, h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = h
}

func is5xx(err error) bool {
	var answer *awshttp.ResponseError
	return errors.As(err, &answer) && answer.HTTPStatusCode() >= 500
}

func plain(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

// fail writes a service's error. The message goes between quotes as it is.
func fail(w http.ResponseWriter, err error) {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &answer) || api.ErrorMessage() == "UnknownError" { // the SDK's word for none
		plain(w, http.StatusInternalServerError, `{"__type":"InternalFailure"}`)
		return
	}
	plain(w, answer.HTTPStatusCode(), `{"__type":"`+api.ErrorCode()+`", "message":"`+api.ErrorMessage()+`"}`)
}

func write(w http.ResponseWriter, out *secretsmanager.GetSecretValueOutput) {
	m := map[string]any{
		"ARN": out.ARN, "Name": out.Name, "VersionId": out.VersionId, "VersionStages": out.VersionStages,
		"CreatedDate": strconv.FormatFloat(float64(out.CreatedDate.UnixMilli())/1000, 'f', -1, 64),
	}
	if out.SecretString != nil {
		m["SecretString"] = out.SecretString
	}
	if out.SecretBinary != nil {
		m["SecretBinary"] = base64.StdEncoding.EncodeToString(out.SecretBinary)
	}
	_ = json.NewEncoder(w).Encode(m)
}
