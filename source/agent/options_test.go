package agent_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/source/agent"
)

// tokenFile returns the path of a file with the text.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeToken(t, path, text)
	return path
}

func writeToken(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// echo answers with the token that it was sent, as a secret.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte(`{"VersionId":"v","SecretString":"` + r.Header.Get("X-Aws-Parameters-Secrets-Token") + `"}`))
}

// The token is looked for as the agent looks for it.
func TestToken(t *testing.T) {
	file := tokenFile(t, " in-file\n")
	missing := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		name                      string
		token, session, container string // the environment
		want, err                 string
	}{
		{"first of all", "first", "second", "third", "first", ""},
		{"then the session", "", "second", "third", "second", ""},
		{"then the container", "", "", "third", "third", ""},
		{"a file", "file://" + file, "second", "", "in-file", ""},
		{"a file of the session", "", "file://" + file, "", "in-file", ""},
		{"the agent's own file", "", "", "", "", "/var/run/awssmatoken"},
		{"no such file", "file://" + missing, "second", "", "", "start the agent, or set AWS_TOKEN"},
		{"an empty file", "file://" + tokenFile(t, "\n"), "", "", "", "is the agent starting?"},
		{"a folder", "file://" + t.TempDir(), "", "", "", "there is no token"},
		{"a long file", "file://" + tokenFile(t, strings.Repeat("x", 1<<17)), "", "", "", "too long"},
		{"two lines", "file://" + tokenFile(t, token+"\n"+token), "", "", "", "that a header cannot carry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("AWS_TOKEN", test.token)
			t.Setenv("AWS_SESSION_TOKEN", test.session)
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", test.container)
			client := agent.New(&agent.Options{Endpoint: answering(t, echo)})
			out, err := client.GetSecretValue(t.Context(), nil)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				hides(t, err)
				return
			}
			if err != nil || *out.SecretString != test.want {
				t.Errorf("got %v, error %v, want %q", out, err, test.want)
			}
		})
	}
}

// A token function's error is the read's, and where a token came from is told when
// the agent does not take it.
func TestTokenErrors(t *testing.T) {
	broken := errors.New("no vault")
	_, err := read(t.Context(), agent.Options{Token: func(context.Context) (string, error) { return "", broken }})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	refuse := answering(t, func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusForbidden, "Bad Token") })
	t.Setenv("AWS_TOKEN", "")
	t.Setenv("AWS_SESSION_TOKEN", token)
	_, err = agent.New(&agent.Options{Endpoint: refuse}).GetSecretValue(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "the token in AWS_SESSION_TOKEN is not the agent's") {
		t.Errorf("error %v, want one that names the variable", err)
	}
	hides(t, err)
}

// The extension's port is in the environment; what cannot be an endpoint is said to
// be none, and not shown.
func TestEndpoint(t *testing.T) {
	url := answering(t, echo)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_TOKEN", "first")
	t.Setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", port)
	for _, opts := range []*agent.Options{nil, {}, {Endpoint: url}, {Endpoint: url + "/"}, {Endpoint: "http://localhost:" + port}} {
		if _, err := agent.New(opts).GetSecretValue(t.Context(), nil); err != nil {
			t.Errorf("%v: error %v", opts, err)
		}
	}
	for _, endpoint := range []string{
		"127.0.0.1:2773", "ftp://127.0.0.1", "http://", "http://127.0.0.1/secrets", "http://127.0.0.1?x=y", "http://127.0.0.1#x",
		"http://user:" + token + "@127.0.0.1", "http://127.0.0.1:port", "\x00",
	} {
		client := agent.New(&agent.Options{Endpoint: endpoint})
		_, err := client.GetSecretValue(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "such as http://127.0.0.1:2773") {
			t.Errorf("%q: error %v", endpoint, err)
		}
		hides(t, err)
	}
	t.Setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "70000")
	if _, err := agent.New(nil).GetSecretValue(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `is "70000", which is not a port`) {
		t.Errorf("a port beyond the last: error %v", err)
	}
}
