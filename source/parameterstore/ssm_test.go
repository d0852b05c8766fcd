package parameterstore_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

const account = "123456789012"

// A store is the part of Systems Manager that keeps parameters, behind its wire
// protocol. It is the transport of its own clients.
type store struct {
	mu         sync.Mutex
	parameters map[string]*parameter // by Region and name
	calls      []string              // operation and name, in the order of arrival
	agents     []string              // their User-Agent headers
	fail       func(name string) *failure
}

type parameter struct {
	versions []*version // those that are left, the oldest first
	latest   int
}

type version struct {
	number      int
	kind, value string
	created     time.Time
	labels      []string
}

// A failure is an error answer.
type failure struct {
	status        int
	code, message string
}

func newStore() *store { return &store{parameters: make(map[string]*parameter)} }

// client returns a real client of the store.
func (s *store) client(region string) *ssm.Client {
	return ssm.New(ssm.Options{
		Region: region, HTTPClient: s,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "test"}, nil
		}),
	})
}

// Do calls the handler on the caller's goroutine, so that it works in a bubble.
func (s *store) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// asked returns the calls so far, and forgets them.
func (s *store) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.calls
	s.calls = nil
	return asked
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")
	if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		answer(w, nil, &failure{400, "UnknownOperationException", ""})
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var in struct {
		Name, Value, Type string
		Overwrite         bool
		WithDecryption    bool
		Labels            []string
		ParameterVersion  int
	}
	if json.Unmarshal(body, &in) != nil {
		answer(w, nil, &failure{400, "SerializationException", ""})
		return
	}
	// Credential=AKIATEST/20260101/us-east-1/ssm/aws4_request
	region := strings.Split(r.Header.Get("Authorization"), "/")[2]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, op+" "+in.Name)
	s.agents = append(s.agents, r.Header.Get("User-Agent"))
	if s.fail != nil {
		if f := s.fail(in.Name); f != nil {
			answer(w, nil, f)
			return
		}
	}
	switch op {
	case "PutParameter":
		answer(w, s.put(region, in.Name, in.Type, in.Value), nil)
	case "LabelParameterVersion":
		out, f := s.label(region, in.Name, in.ParameterVersion, in.Labels)
		answer(w, out, f)
	case "GetParameter":
		out, f := s.get(region, in.Name, in.WithDecryption)
		answer(w, out, f)
	default:
		answer(w, nil, &failure{400, "UnknownOperationException", ""})
	}
}

func answer(w http.ResponseWriter, out map[string]any, f *failure) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "0d1e2f3a")
	if f != nil {
		w.WriteHeader(f.status)
		out = map[string]any{"__type": f.code}
		if f.message != "" {
			out["message"] = f.message
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// put adds a version. Of more than 100 the oldest go.
func (s *store) put(region, name, kind, value string) map[string]any {
	p := s.parameters[region+name]
	if p == nil {
		p = new(parameter)
		s.parameters[region+name] = p
	}
	p.latest++
	p.versions = append(p.versions, &version{number: p.latest, kind: cmp.Or(kind, "SecureString"), value: value, created: time.Now()})
	if len(p.versions) > 100 {
		p.versions = p.versions[1:]
	}
	return map[string]any{"Version": p.latest, "Tier": "Standard"}
}

// label moves labels to a version.
func (s *store) label(region, name string, number int, labels []string) (map[string]any, *failure) {
	p := s.parameters[region+name]
	if p == nil {
		return nil, &failure{400, "ParameterNotFound", ""}
	}
	for _, v := range p.versions {
		v.labels = slices.DeleteFunc(v.labels, func(l string) bool { return slices.Contains(labels, l) })
		if v.number == number {
			v.labels = append(v.labels, labels...)
		}
	}
	return map[string]any{"ParameterVersion": number}, nil
}

func (s *store) get(region, id string, decrypt bool) (map[string]any, *failure) {
	owner, name := account, id
	if parts := strings.SplitN(id, ":", 6); parts[0] == "arn" && len(parts) == 6 {
		if parts[3] != region {
			return nil, &failure{400, "ValidationException", "the ARN is of another Region"}
		}
		owner, name = parts[4], strings.TrimPrefix(parts[5], "parameter")
	}
	name, selector, selected := strings.Cut(name, ":")
	p := s.parameters[region+name]
	if p == nil {
		return nil, &failure{400, "ParameterNotFound", ""}
	}
	found := p.versions[len(p.versions)-1]
	if selected {
		i := slices.IndexFunc(p.versions, func(v *version) bool {
			return strconv.Itoa(v.number) == selector || slices.Contains(v.labels, selector)
		})
		if i < 0 {
			return nil, &failure{400, "ParameterVersionNotFound", "Systems Manager could not find version " + selector + " of " + name + "."}
		}
		found = p.versions[i]
	}
	value := found.value
	if found.kind == "SecureString" && !decrypt {
		value = "AQICAHh..."
	}
	out := map[string]any{
		"ARN":              fmt.Sprintf("arn:aws:ssm:%s:%s:parameter%s", region, owner, name),
		"Name":             name,
		"Type":             found.kind,
		"Value":            value,
		"Version":          found.number,
		"DataType":         "text",
		"LastModifiedDate": float64(found.created.UnixMilli()) / 1000,
	}
	if selected {
		out["Selector"] = ":" + selector
	}
	return map[string]any{"Parameter": out}, nil
}

// put adds a version by the API.
func put(t *testing.T, client *ssm.Client, name, value string) {
	t.Helper()
	if _, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: &name, Value: &value, Type: ssmtypes.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
}

// label moves labels by the API.
func label(t *testing.T, client *ssm.Client, name string, number int64, labels ...string) {
	t.Helper()
	if _, err := client.LabelParameterVersion(t.Context(), &ssm.LabelParameterVersionInput{
		Name: &name, ParameterVersion: &number, Labels: labels,
	}); err != nil {
		t.Fatal(err)
	}
}
