package dbsecret_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/internal/dbsecret"
)

func fields(t *testing.T, text string) dbsecret.Fields {
	t.Helper()
	f, err := dbsecret.Of(rotation.NewValue(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// An error names the field, and never what is in it.
func wantError(t *testing.T, text, want string, err error) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", text, err, want)
	}
	if err != nil && strings.Contains(err.Error(), "hidden") {
		t.Errorf("%s: %v shows what is in it", text, err)
	}
}

func TestOf(t *testing.T) {
	for _, text := range []string{``, `null`, `[]`, `"hidden"`, `{"password":"hidden"`} {
		_, err := dbsecret.Of(rotation.NewValue(text))
		wantError(t, text, "the secret's value", err)
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct{ text, value, problem, missing string }{
		{`{"host":"a"}`, "a", "", ""},
		{`{"Host":"a"}`, "before", "", "has no"},
		{`{}`, "before", "", "has no"},
		{`{"host":null}`, "before", "", ""}, // what is not there, and not empty
		{`{"host":""}`, "", "", "is empty"},
		{`{"host":["hidden"]}`, "before", "is not a string", "is not a string"},
		{`{"host":"hidden\u0000"}`, "hidden\x00", "has a NUL", "has a NUL"},
	} {
		f := fields(t, test.text)
		value := "before"
		wantError(t, test.text, test.problem, f.Text("host", &value))
		if value != test.value {
			t.Errorf("%s: %q, want %q", test.text, value, test.value)
		}
		value = "before"
		wantError(t, test.text, test.missing, f.Need("host", &value))
	}
	var empty string
	wantError(t, "null", "is empty", fields(t, `{"host":null}`).Need("host", &empty))
}

func TestPort(t *testing.T) {
	for text, want := range map[string]uint16{
		`{}`: 5432, `{"port":null}`: 5432, `{"port":6543}`: 6543, `{"port":"6543"}`: 6543, `{"port":" 65535 "}`: 65535,
		`{"port":0}`: 0, `{"port":65536}`: 0, `{"port":""}`: 0, `{"port":"hidden"}`: 0, `{"port":1.5}`: 0, `{"port":-1}`: 0, `{"port":[1]}`: 0,
	} {
		port, problem := uint16(5432), ""
		if want == 0 {
			problem = `the secret's "port" is not a number from 1 to 65535`
		}
		wantError(t, text, problem, fields(t, text).Port(&port))
		if problem == "" && port != want {
			t.Errorf("%s: %d, want %d", text, port, want)
		}
	}
}

func TestTLS(t *testing.T) {
	for text, want := range map[string]string{
		`{"ssl":true}`: "true", `{"ssl":"True"}`: "true", `{"ssl":false}`: "false", `{"ssl":"FALSE"}`: "false",
		`{}`: "nothing", `{"ssl":null}`: "nothing", `{"ssl":"no"}`: "nothing", `{"ssl":0}`: "nothing",
	} {
		got := "nothing"
		if said := fields(t, text).TLS(); said != nil {
			got = fmt.Sprint(*said)
		}
		if got != want {
			t.Errorf("%s says %s, want %s", text, got, want)
		}
	}
}

func TestReplicas(t *testing.T) {
	for _, test := range []struct{ text, want, problem string }{
		{`{}`, "[]", ""},
		{`{"replicas":[]}`, "[]", ""},
		{`{"replicas":["a","b:1"]}`, "[a b:1]", ""},
		{`{"replicas":"hidden"}`, "[]", "is not a list of strings"},
		{`{"replicas":["a",""]}`, "[]", "has an empty string"},
	} {
		names, err := fields(t, test.text).Replicas()
		wantError(t, test.text, test.problem, err)
		if fmt.Sprint(names) != test.want {
			t.Errorf("%s: %v, want %s", test.text, names, test.want)
		}
	}
}

// Names with and without a port, with several addresses, as addresses of both kinds.
func TestNodes(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]string, error) {
		switch host {
		case "a":
			return []string{"10.0.0.1", "fd00::1"}, nil
		case "gone":
			return nil, errors.New("no such host")
		}
		return []string{host}, nil
	}
	nodes, err := dbsecret.Nodes(t.Context(), []string{"a", "b:1", "[::1]", "::2", "[::3]:3"}, 5432, lookup)
	want := []rotation.Node{
		{Name: "a:5432", Addr: "10.0.0.1:5432"},
		{Name: "a:5432", Addr: "[fd00::1]:5432"},
		{Name: "b:1", Addr: "b:1"},
		{Name: "[::1]:5432", Addr: "[::1]:5432"},
		{Name: "[::2]:5432", Addr: "[::2]:5432"},
		{Name: "[::3]:3", Addr: "[::3]:3"},
	}
	if err != nil || !slices.Equal(nodes, want) {
		t.Errorf("Nodes = %v, %v, want %v", nodes, err, want)
	}
	if nodes, err := dbsecret.Nodes(t.Context(), []string{"a", "gone"}, 5432, lookup); err == nil || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("Nodes = %v, %v, want an error that names the host", nodes, err)
	}
	for name, want := range map[string]string{"a:5432": "a 5432", "[::1]:1": "::1 1", "a": "", "a:0": "", "a:65536": "", "a:x": ""} {
		host, port, err := dbsecret.HostPort(rotation.Node{Name: name})
		if got := fmt.Sprint(host, " ", port); want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("HostPort(%q) = %s, %v, want %q", name, got, err, want)
		}
	}
}

// Who looks names up: the caller's function, else nobody if the caller dials, else
// the system.
func TestLookupFor(t *testing.T) {
	own := func(context.Context, string) ([]string, error) { return []string{"own"}, nil }
	for _, dialsItself := range []bool{false, true} {
		if addrs, err := dbsecret.LookupFor(own, dialsItself)(t.Context(), "127.0.0.1"); err != nil || addrs[0] != "own" {
			t.Errorf("with a function: %v, %v", addrs, err)
		}
		if addrs, err := dbsecret.LookupFor(nil, dialsItself)(t.Context(), "127.0.0.1"); err != nil || addrs[0] != "127.0.0.1" {
			t.Errorf("without one: %v, %v", addrs, err)
		}
	}
	if addrs, err := dbsecret.LookupFor(nil, true)(t.Context(), "behind.the.tunnel.invalid"); err != nil || addrs[0] != "behind.the.tunnel.invalid" {
		t.Errorf("through a tunnel: %v, %v", addrs, err)
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example.com": false, "10.0.0.1": false, "db": false, "0.0.0.0": false,
	} {
		if dbsecret.IsLoopback(host) != want {
			t.Errorf("IsLoopback(%q) = %t", host, !want)
		}
	}
}
