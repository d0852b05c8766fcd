//go:build unix

package mysqlserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/testcert"
)

// childEnv makes the test binary start a server of that kind, say which, and wait
// to be killed.
const childEnv = "KEYTURN_MYSQLSERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childEnv); kind != "" {
		srv, err := mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.Kind(kind)})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		pid, err := os.ReadFile(filepath.Join(srv.Dir(), "server.pid"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(srv.Dir(), strings.TrimSpace(string(pid)))
		select {}
	}
	os.Exit(m.Run())
}

// eachKind runs a test for both kinds of server.
func eachKind(t *testing.T, f func(*testing.T, mysqlserver.Kind)) {
	t.Helper()
	for _, kind := range []mysqlserver.Kind{mysqlserver.MariaDB, mysqlserver.MySQL} {
		t.Run(string(kind), func(t *testing.T) { f(t, kind) })
	}
}

func startServer(t *testing.T, opts *mysqlserver.Options) *mysqlserver.Server {
	t.Helper()
	began := time.Now()
	srv, err := mysqlserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is ready after %v", opts.Kind, time.Since(began))
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// login opens a connection, as change has it.
func login(ctx context.Context, srv *mysqlserver.Server, user, password string, change ...func(*mysql.Config)) (driver.Conn, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
	cfg.User, cfg.Passwd, cfg.DBName = user, password, user
	for _, c := range change {
		c(cfg)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

func execute(ctx context.Context, conn driver.Conn, query string) error {
	_, err := conn.(driver.ExecerContext).ExecContext(ctx, query, nil)
	return err
}

func pid(t *testing.T, srv *mysqlserver.Server) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(srv.Dir(), "server.pid"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
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
	eachKind(t, func(t *testing.T, kind mysqlserver.Kind) {
		cert, key := testcert.New(t)
		srv := startServer(t, &mysqlserver.Options{
			Kind:     kind,
			Settings: map[string]string{"max_connections": "17", "ssl_cert": "server.crt", "ssl_key": "server.key"},
			Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		})
		ctx := t.Context()
		const name, password = "o'dd `na_me\"", `p'a\ss %w"ord`
		if err := srv.CreateUser(ctx, name, password); err != nil {
			t.Fatal(err)
		}

		var made string
		var limit int
		if err := srv.Admin().QueryRowContext(ctx, "SELECT version(), @@max_connections").Scan(&made, &limit); err != nil {
			t.Fatal(err)
		}
		if limit != 17 || strings.Contains(made, "MariaDB") != (kind == mysqlserver.MariaDB) || srv.Kind() != kind {
			t.Errorf("version %s with %d connections, want %s with 17", made, limit, kind)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(cert)
		for how, change := range map[string]func(*mysql.Config){
			"TCP":    func(*mysql.Config) {},
			"TLS":    func(cfg *mysql.Config) { cfg.TLS = &tls.Config{RootCAs: roots, ServerName: testcert.Name} },
			"socket": func(cfg *mysql.Config) { cfg.Net, cfg.Addr = "unix", srv.Socket() },
		} {
			conn, err := login(ctx, srv, name, password, change)
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			if err := execute(ctx, conn, "CREATE TABLE `"+how+"` (i INT)"); err != nil {
				t.Errorf("%s: the user may not do everything in its database: %v", how, err)
			}
			_ = conn.Close()
		}

		t.Run("wrong password", func(t *testing.T) {
			_, err := login(ctx, srv, name, "wrong")
			if refusal, ok := errors.AsType[*mysql.MySQLError](err); !ok || refusal.Number != 1045 {
				t.Fatalf("login = %v, want error 1045", err)
			}
			for user, want := range map[string]int{name: 1, "keyturn": 0, "o'dd": 0} {
				if got, err := srv.FailedLogins(user); got != want || err != nil {
					t.Errorf("FailedLogins(%q) = %d, %v, want %d", user, got, err, want)
				}
			}
		})
		t.Run("no such database", func(t *testing.T) {
			if _, err := login(ctx, srv, name, password, func(cfg *mysql.Config) { cfg.DBName = "nowhere" }); err == nil {
				t.Fatal("logged in to a database that is not there")
			}
			if got, err := srv.FailedLogins(name); got != 1 || err != nil {
				t.Errorf("FailedLogins = %d, %v, want 1: the credential was good", got, err)
			}
		})
		t.Run("no administrator without a password", func(t *testing.T) {
			for _, change := range []func(*mysql.Config){
				func(*mysql.Config) {},
				func(cfg *mysql.Config) { cfg.Net, cfg.Addr = "unix", srv.Socket() },
			} {
				if conn, err := login(ctx, srv, "root", "", change, func(cfg *mysql.Config) { cfg.DBName = "" }); err == nil {
					_ = conn.Close()
					t.Error("root logged in without a password")
				}
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
			_ = conn.Close()
		})
		t.Run("nothing prints a password", func(t *testing.T) {
			log, err := srv.Log()
			if err != nil {
				t.Fatal(err)
			}
			text := log + fmt.Sprintf("%v %+v %#v", srv, srv, srv)
			for _, secret := range []string{`p'a\ss`, `p\'a\\ss`, "next'one", `next\'one`} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in the log or in what fmt prints of a Server", secret)
				}
			}
			if _, err := os.Stat(filepath.Join(srv.Dir(), "init.sql")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file with the administrator's password: %v", err)
			}
		})
		t.Run("restart", func(t *testing.T) {
			port, process := srv.Port(), pid(t, srv)
			if err := srv.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			if srv.Port() != port || pid(t, srv) == process {
				t.Errorf("port %d, process %d, want port %d and another process", srv.Port(), process, port)
			}
			conn, err := login(ctx, srv, name, "next'one")
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			if err := srv.Admin().PingContext(ctx); err != nil {
				t.Errorf("the administrator after the restart: %v", err)
			}
			if got, err := srv.FailedLogins(name); got != 1 || err != nil {
				t.Errorf("FailedLogins = %d, %v, want the 1 from before", got, err)
			}
		})
	})
}

// Two at once, each with its own port and folder, and without TLS.
func TestStop(t *testing.T) {
	one := startServer(t, &mysqlserver.Options{Kind: mysqlserver.MariaDB})
	two := startServer(t, &mysqlserver.Options{Kind: mysqlserver.MySQL})
	if one.Port() == two.Port() || one.Dir() == two.Dir() {
		t.Fatalf("two servers share port %d or folder %s", one.Port(), one.Dir())
	}
	for _, srv := range []*mysqlserver.Server{one, two} {
		if err := srv.CreateUser(t.Context(), "app", "p4ssword"); err != nil {
			t.Fatal(err)
		}
		_, err := login(t.Context(), srv, "app", "p4ssword", func(cfg *mysql.Config) { cfg.TLSConfig = "skip-verify" })
		if !errors.Is(err, mysql.ErrNoTLS) {
			t.Errorf("%s: login over TLS: %v, want that there is none", srv.Kind(), err)
		}
		p := pid(t, srv)
		for range 2 {
			if err := srv.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if running(p) {
			t.Errorf("%s: the process runs on after Stop", srv.Kind())
		}
		if _, err := os.Stat(srv.Dir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder is there after Stop: %v", srv.Kind(), err)
		}
		if err := srv.Admin().PingContext(t.Context()); err == nil {
			t.Errorf("%s: the administrator's pool works after Stop", srv.Kind())
		}
	}
}

// Whenever the context ends, a failed start leaves no process and no folder.
func TestStartCancelled(t *testing.T) {
	eachKind(t, func(t *testing.T, kind mysqlserver.Kind) {
		for _, after := range []time.Duration{0, 50 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second} {
			t.Run(after.String(), func(t *testing.T) {
				tmp, err := os.MkdirTemp("", "keyturn-test-") //nolint:usetesting // t.TempDir is too long for a socket and closed to other users
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
				srv, err := mysqlserver.Start(ctx, &mysqlserver.Options{Kind: kind})
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
				// What an installer has started is no child of ours: it is
				// killed with it, and gone when the system has got to it.
				eventually(t, "left running", func() []string { return inCommandLines(tmp) })
			})
		}
	})
}

// eventually waits until f returns nothing.
func eventually(t *testing.T, what string, f func() []string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond) // nobody tells us
	defer tick.Stop()
	for left := f(); len(left) > 0; left = f() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s: %v", what, left)
		}
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
	eachKind(t, func(t *testing.T, kind mysqlserver.Kind) {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+string(kind))
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
		eventually(t, "outlived its parent", func() []string {
			if running(server) {
				return []string{strconv.Itoa(server)}
			}
			return nil
		})
	})
}

func TestFind(t *testing.T) {
	for kind, env := range map[mysqlserver.Kind]string{mysqlserver.MariaDB: "KEYTURN_MARIADB_BIN", mysqlserver.MySQL: "KEYTURN_MYSQL_BIN"} {
		t.Run(string(kind), func(t *testing.T) {
			if _, err := mysqlserver.Find(t.Context(), kind); err != nil {
				t.Fatal(err)
			}
			t.Setenv(env, t.TempDir())
			_, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{Kind: kind})
			if err == nil || !strings.Contains(err.Error(), env) {
				t.Errorf("Start = %v, want an error that names %s", err, env)
			}
		})
	}
	t.Run("MariaDB is not MySQL", func(t *testing.T) {
		path, err := mysqlserver.Program(t.Context(), mysqlserver.MariaDB)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.Symlink(path, filepath.Join(dir, "mysqld")); err != nil {
			t.Fatal(err)
		}
		t.Setenv("KEYTURN_MYSQL_BIN", dir)
		if _, err := mysqlserver.Find(t.Context(), mysqlserver.MySQL); err == nil {
			t.Error("a mysqld of MariaDB was taken for MySQL")
		}
	})
	if _, err := mysqlserver.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "say MariaDB or MySQL") {
		t.Errorf("Start without a kind: %v", err)
	}
}
