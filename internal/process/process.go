// Package process runs the programs of servers for tests: as a user that they
// accept, in a process group of their own, and never longer than the test lives.
package process

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// A Runner runs the programs of one kind of server.
type Runner struct {
	// Name is the package that errors are from.
	Name string

	// Users are whom to run as where we are root, as which no server runs: the
	// first that there is.
	Users []string

	// Quit has the programs end by SIGQUIT when we do. It is PostgreSQL's
	// immediate shutdown, which gives back its shared memory; after SIGKILL a
	// segment would stay until the next boot. Default: SIGKILL, for servers that
	// have nothing to give back, and whose clean end takes longer than anybody
	// waits for it here.
	Quit bool
}

func (r *Runner) fail(err error) error { return fmt.Errorf("%s: %w", r.Name, err) }

// FreePort returns a TCP port of the host that nobody listens on.
func (r *Runner) FreePort(host string) (int, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, r.fail(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// WriteFile writes a file that only the server's user may read.
func (r *Runner) WriteFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return r.fail(err)
	}
	if err := r.HandOver(path); err != nil {
		return r.fail(err)
	}
	return nil
}

// Tail returns the end of a log, for an error text.
func Tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}
