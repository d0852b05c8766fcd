package cache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/smtest"
)

// sentinel is a value that no output may hold.
const sentinel = "s3nt!nel-Pa55w0rd"

// secret returns a Secret that holds value.
func secret(t *testing.T, value string) *cache.Secret {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put("prod/db", value)
	c := newCache(t, srv, nil)
	s, err := c.Get(t.Context(), "prod/db")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretNeverShows(t *testing.T) {
	s := secret(t, `{"password":"`+sentinel+`"}`)
	leaktest.Check(t, sentinel, s)
	leaktest.Check(t, sentinel, *s)

	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", sentinel)
	c := newCache(t, srv, nil)
	if _, err := c.Get(t.Context(), "prod/db"); err != nil {
		t.Fatal(err)
	}
	// Closed first: printing reads fields that a flight's end still writes.
	c.Close()
	leaktest.Check(t, sentinel, c)
	leaktest.Check(t, sentinel, c.Handle("prod/db"))
}

func TestSecretAccessors(t *testing.T) {
	before := time.Now()
	s := secret(t, "value")
	if got, want := s.Name(), "prod/db"; got != want {
		t.Errorf("Name() = %q, want %q", got, want)
	}
	if got, want := s.ARN(), "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-"; !strings.HasPrefix(got, want) {
		t.Errorf("ARN() = %q, want prefix %q", got, want)
	}
	if got := s.Text(); got != "value" {
		t.Errorf("Text() = %q", got)
	}
	if s.VersionID() == "" || s.Created().IsZero() || s.Fetched().Before(before) || s.Age() <= 0 {
		t.Errorf("VersionID %q, Created %v, Fetched %v, Age %v", s.VersionID(), s.Created(), s.Fetched(), s.Age())
	}

	// What a caller does to a returned slice, no other reader sees.
	clear(s.Bytes())
	s.Stages()[0] = "X"
	if got := string(s.Bytes()); got != "value" {
		t.Errorf("Bytes() = %q after a caller zeroed its copy", got)
	}
	if got := s.Stages()[0]; got != cache.Current {
		t.Errorf("Stages()[0] = %q after a caller changed its copy", got)
	}
}

func TestDecodeErrorsQuoteNothing(t *testing.T) {
	type inner struct {
		At      time.Time
		Number  int
		Timeout time.Duration
	}
	type config struct {
		Name  string
		Inner inner
	}
	tests := []struct{ value, want string }{
		{"s3cr3t-not-json", "not valid JSON (at byte 1)"},
		{`{"Name": "s3cr3t`, "not valid JSON (at byte"},
		{`{"Name": {"s3cr3t": 1}}`, `field "Name": a JSON object cannot be decoded into string`},
		{`{"Inner": {"Number": "s3cr3t"}}`, `field "Inner.Number": a JSON string cannot be decoded into int`},
		{`{"Inner": {"Number": 123456789012345678901234567890}}`, `field "Inner.Number": a JSON number cannot be decoded into int`},
		{`{"Inner": {"At": "s3cr3t"}}`, "a field's own decoding into *cache_test.config fails"},
		{`["s3cr3t"]`, "a JSON array cannot be decoded into cache_test.config"},
	}
	for _, test := range tests {
		s := secret(t, test.value)
		var c config
		err := s.Decode(&c)
		if err == nil {
			t.Errorf("Decode(%s) succeeded", test.value)
			continue
		}
		if got := err.Error(); !strings.Contains(got, test.want) || !strings.Contains(got, `secret "prod/db" (version `+s.VersionID()) {
			t.Errorf("Decode(%s) = %q, want the secret, the version and %q", test.value, got, test.want)
		}
		if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "1234567") {
			t.Errorf("Decode(%s) = %q quotes the value", test.value, err)
		}
	}
	var c config
	if err := secret(t, `{"Name":"n","Inner":{"Number":7}}`).Decode(&c); err != nil || c.Name != "n" || c.Inner.Number != 7 {
		t.Errorf("Decode = %+v, %v", c, err)
	}
	if err := secret(t, "{}").Decode(c); err == nil || !strings.Contains(err.Error(), "non-pointer") {
		t.Errorf("Decode into a value: %v", err)
	}
}
