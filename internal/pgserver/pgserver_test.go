//go:build unix

package pgserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/pgserver"
)

// childEnv makes the test binary start a server, say which, and wait to be killed.
const childEnv = "KEYTURN_PGSERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		srv, err := pgserver.Start(context.Background(), nil)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		pid, err := os.ReadFile(filepath.Join(srv.Dir(), "data", "postmaster.pid"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		first, _, _ := strings.Cut(string(pid), "\n")
		fmt.Println(srv.Dir(), first)
		select {}
	}
	os.Exit(m.Run())
}

func startServer(t *testing.T, opts *pgserver.Options) *pgserver.Server {
	t.Helper()
	srv, err := pgserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func login(ctx context.Context, srv *pgserver.Server, user, password string) (*pgx.Conn, error) {
	cfg := srv.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = user, password, user
	return pgx.ConnectConfig(ctx, cfg)
}

func pid(t *testing.T, srv *pgserver.Server) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(srv.Dir(), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	n, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// running reports whether a process is there and not dead: where nobody reaps
// orphans, in many a container, a dead one stays as a zombie.
func running(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
		return false
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func TestServer(t *testing.T) {
	srv := startServer(t, &pgserver.Options{MaxConnections: 7, Settings: map[string]string{"log_statement": "all"}})
	ctx := t.Context()
	const name, password = `o'dd "name`, `p'a\ss %w"ord`
	if err := srv.CreateUser(ctx, name, password); err != nil {
		t.Fatal(err)
	}

	conn, err := login(ctx, srv, name, password)
	if err != nil {
		t.Fatal(err)
	}
	var limit, address string
	err = conn.QueryRow(ctx, "SELECT current_setting('max_connections'), current_setting('listen_addresses')").Scan(&limit, &address)
	if err != nil {
		t.Fatal(err)
	}
	if limit != "7" || address != "127.0.0.1" {
		t.Errorf("max_connections, listen_addresses = %s, %s, want 7, 127.0.0.1", limit, address)
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE t ()"); err != nil {
		t.Errorf("the user does not own its database: %v", err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}

	t.Run("wrong password", func(t *testing.T) {
		_, err := login(ctx, srv, name, "wrong")
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
			t.Fatalf("login = %v, want SQLSTATE 28P01", err)
		}
		for user, want := range map[string]int{name: 1, "postgres": 0, "o'dd": 0} {
			if got, err := srv.FailedLogins(user); got != want || err != nil {
				t.Errorf("FailedLogins(%q) = %d, %v, want %d", user, got, err, want)
			}
		}
	})
	t.Run("no login", func(t *testing.T) {
		admin, err := pgx.ConnectConfig(ctx, srv.ConnConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = admin.Close(ctx) }()
		if _, err := admin.Exec(ctx, "CREATE ROLE nologin PASSWORD 'x'"); err != nil {
			t.Fatal(err)
		}
		if _, err := login(ctx, srv, "nologin", "x"); err == nil {
			t.Fatal("a role without LOGIN logged in")
		}
		if got, err := srv.FailedLogins("nologin"); got != 1 || err != nil {
			t.Errorf("FailedLogins = %d, %v, want 1 (SQLSTATE 28000)", got, err)
		}
	})
	t.Run("another password", func(t *testing.T) {
		if err := srv.SetPassword(ctx, name, "next'one"); err != nil {
			t.Fatal(err)
		}
		conn, err := login(ctx, srv, name, "next'one")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(ctx)
	})
	t.Run("nothing prints a password", func(t *testing.T) {
		log, err := srv.Log()
		if err != nil {
			t.Fatal(err)
		}
		text := log + fmt.Sprintf("%v %+v %#v", srv, srv, srv)
		for _, secret := range []string{`p'a\ss`, `p''a\\ss`, "next'one", "next''one", srv.ConnConfig().Password} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the log or in what fmt prints of a Server", secret)
			}
		}
	})
}

func TestStop(t *testing.T) {
	// Two at once, each with its own port and folder.
	one, two := startServer(t, nil), startServer(t, nil)
	if one.Port() == two.Port() || one.Dir() == two.Dir() {
		t.Fatalf("two servers share port %d or folder %s", one.Port(), one.Dir())
	}
	conn, err := pgx.ConnectConfig(t.Context(), one.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()

	p := pid(t, one)
	for range 2 {
		if err := one.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if running(p) {
		t.Error("the process runs on after Stop")
	}
	if _, err := os.Stat(one.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there after Stop: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection works after Stop")
	}
	other, err := pgx.ConnectConfig(t.Context(), two.ConnConfig())
	if err != nil {
		t.Fatalf("stopping one server stopped the other: %v", err)
	}
	_ = other.Close(t.Context())
}

// Whenever the context ends, a failed start leaves no process and no folder.
func TestStartCancelled(t *testing.T) {
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 300 * time.Millisecond, time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			tmp, err := os.MkdirTemp("", "keyturn-pgserver-test-") //nolint:usetesting // t.TempDir is too long for a socket and closed to other users
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(tmp) }()
			if err := os.Chmod(tmp, 0o711); err != nil { // the server's user passes through
				t.Fatal(err)
			}
			t.Setenv("TMPDIR", tmp)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			srv, err := pgserver.Start(ctx, nil)
			if err == nil { // a fast machine
				if err := srv.Stop(); err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Start = %v, want the context's error", err)
			}
			left, err := os.ReadDir(tmp)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if procs := inCommandLines(tmp); len(procs) > 0 {
				t.Errorf("left running: %v", procs)
			}
		})
	}
}

// inCommandLines returns the processes that name text; none where there is no /proc.
func inCommandLines(text string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), text) {
			found = append(found, f)
		}
	}
	return found
}

// The server dies with the process that started it, by SIGKILL too.
func TestKilled(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	var server int
	if _, err := fmt.Sscan(line, &dir, &server); err != nil {
		t.Fatalf("the child said %q", line)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if !running(server) {
		t.Fatalf("no process %d", server)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	timeout := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond) // nobody tells us when a process that is not our child ends
	defer tick.Stop()
	for running(server) {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("process %d outlived its parent", server)
		}
	}
}

func TestFindBinaries(t *testing.T) {
	dir, err := pgserver.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("named", func(t *testing.T) {
		t.Setenv("KEYTURN_POSTGRES_BIN", dir)
		if got, err := pgserver.FindBinaries(); got != dir || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, dir)
		}
	})
	t.Run("named wrongly", func(t *testing.T) {
		t.Setenv("KEYTURN_POSTGRES_BIN", t.TempDir())
		_, err := pgserver.Start(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "KEYTURN_POSTGRES_BIN") {
			t.Errorf("Start = %v, want an error that names KEYTURN_POSTGRES_BIN", err)
		}
	})
}
