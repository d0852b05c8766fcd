package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Where the token is. The variables are the default of the agent's
// ssrf_env_variables; the file is the one that its install script makes.
const tokenFile = "/var/run/awssmatoken"

var tokenVariables = [...]string{"AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}

// maxToken is more than any session token of STS has been seen to have.
const maxToken = 64 << 10

// token returns the function that finds the token, and tells where it was.
func (o *Options) token() func(context.Context) (token, from string, err error) {
	if o.Token == nil {
		return findToken
	}
	given := o.Token
	return func(ctx context.Context) (string, string, error) {
		token, err := given(ctx)
		if err != nil {
			return "", "", fmt.Errorf("agent: Options.Token: %w", err)
		}
		return check(token, "Options.Token")
	}
}

func findToken(context.Context) (token, from string, err error) {
	for _, name := range tokenVariables {
		value := os.Getenv(name)
		if value == "" {
			continue
		}
		if path, ok := strings.CutPrefix(value, "file://"); ok {
			return readToken(path)
		}
		return check(value, name)
	}
	return readToken(tokenFile)
}

// readToken reads the token from a file, every time: the agent's start writes a new
// one there.
func readToken(path string) (token, from string, err error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "", fmt.Errorf("agent: there is no token: %w; start the agent, or set AWS_TOKEN to its token or to file:///path", err)
	case errors.Is(err, fs.ErrPermission):
		return "", "", fmt.Errorf("agent: there is no token: %w; add this program's user to the group of the file (awssmatokenreader)", err)
	case err != nil:
		return "", "", fmt.Errorf("agent: there is no token: %w", err)
	}
	defer f.Close() //nolint:errcheck // It was only read.
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	switch {
	case err != nil:
		return "", "", fmt.Errorf("agent: there is no token: %w", err)
	case len(text) > maxToken:
		return "", "", fmt.Errorf("agent: there is no token in %s: it is too long for one", path)
	}
	return check(strings.TrimSpace(string(text)), path)
}

// check keeps out what cannot be a token, before net/http says so.
func check(token, from string) (string, string, error) {
	if token == "" {
		return "", "", fmt.Errorf("agent: the token in %s is empty; is the agent starting?", from)
	}
	for _, b := range []byte(token) {
		if b < ' ' || b == 0x7f {
			return "", "", fmt.Errorf("agent: the token in %s has characters that a header cannot carry", from)
		}
	}
	return token, from, nil
}
