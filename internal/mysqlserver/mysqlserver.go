// Package mysqlserver runs private MariaDB and MySQL servers for tests and demos:
// each with a data folder of its own and a free port of 127.0.0.1, gone when the
// process is gone.
//
// It is no test package and does not import testing. It does not replace a
// container: the programs have to be on the machine (see [Start]).
package mysqlserver

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/redact"

	"github.com/keyturn/keyturn/internal/process"
)

// Options say which server is run, and how. The zero value of each field but
// Kind is the server's own default, where durability is traded for speed.
type Options struct {
	// Kind is the make of the server: [MariaDB] or [MySQL].
	Kind Kind

	// Settings are further server settings: {"max_password_errors": "3"} is
	// --max_password_errors=3. They win over those of this package, which turn
	// TLS off unless there is an "ssl_cert".
	Settings map[string]string

	// Files are written into the data folder, readable by the server alone,
	// before it starts: certificates, mostly. A relative path in Settings
	// ("ssl_key": "server.key") is relative to that folder.
	Files map[string][]byte
}

const (
	host      = "127.0.0.1"
	superuser = "keyturn"

	portAttempts = 10
	stopWait     = 10 * time.Second
	pollEvery    = 10 * time.Millisecond

	// What both kinds log when they answer, on their last line of the start.
	readyText = "ready for connections"
)

// runner runs the servers' programs.
var runner = &process.Runner{Name: "mysqlserver", Users: []string{"mysql", "nobody"}}

// Server is a running server. All methods may be called concurrently.
type Server struct {
	opts     Options
	programs programs
	dir      string
	port     int
	password func() string // of the superuser
	admin    *sql.DB

	mu   sync.Mutex // held while the process is started or ended; protects following
	proc *process.Process

	stop    sync.Once
	stopErr error
}

// Start starts a server and returns when it accepts connections. opts must name
// a Kind.
//
// MariaDB's programs (mariadbd, mariadb-install-db) are looked for where the
// environment variable KEYTURN_MARIADB_BIN says, and nowhere else if it is set;
// then in PATH and where Debian, Fedora and Homebrew put them. MySQL's (mysqld)
// likewise, with KEYTURN_MYSQL_BIN, and then where scripts/setup has unpacked it.
//
// The context governs the start alone: when it ends early nothing is left
// behind, and a server that has started outlives it. Call [Server.Stop]. A
// process that ends without doing so takes its server along, but leaves the
// data folder in [os.TempDir].
func Start(ctx context.Context, opts *Options) (_ *Server, err error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := runner.Supported(); err != nil {
		return nil, err
	}
	found, err := find(ctx, o.Kind)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keyturn-my-")
	if err != nil {
		return nil, fmt.Errorf("mysqlserver: %w", err)
	}
	s := &Server{opts: o, programs: found, dir: dir, password: redact.Hide(rand.Text())}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := runner.HandOver(dir); err != nil {
		return nil, fmt.Errorf("mysqlserver: %w", err)
	}
	if err := s.initialize(ctx); err != nil {
		return nil, err
	}
	// The port is free when it is chosen, and may be taken when it is used:
	// there is no way to hand a listening socket to the server.
	for range portAttempts {
		if s.port, err = runner.FreePort(host); err != nil {
			return nil, err
		}
		err = s.run(ctx, "--init-file="+s.initFile())
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s.admin = sql.OpenDB(login{s})
	s.admin.SetMaxOpenConns(4)
	if err := os.Remove(s.initFile()); err != nil {
		return nil, fmt.Errorf("mysqlserver: %w", err)
	}
	return s, nil
}

func (s *Server) dataDir() string  { return filepath.Join(s.dir, "data") }
func (s *Server) initFile() string { return filepath.Join(s.dir, "init.sql") }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "server.log") }

// quick are settings that trade durability for speed: the start is shorter by
// half.
func (s *Server) quick() []string {
	common := []string{"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=32M"}
	if s.opts.Kind == MariaDB {
		return append(common, "--innodb-log-file-size=8M")
	}
	// Certificates of its own would take as long as the rest.
	return append(common, "--skip-log-bin", "--innodb-redo-log-capacity=64M", "--performance-schema=OFF", "--auto-generate-certs=OFF")
}

// initialize makes the data folder, and the file with the server's first
// statements: nobody but the superuser logs in, and its password is on no
// command line, which everybody on the machine can read.
func (s *Server) initialize(ctx context.Context) error {
	command := append(slices.Clone(s.programs.install), "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	others := "DELETE FROM mysql.global_priv WHERE User = 'root';\nFLUSH PRIVILEGES;\n" // of several hosts
	if s.opts.Kind == MySQL {
		command = append(slices.Clone(s.programs.server), "--no-defaults", "--initialize-insecure")
		others = "DROP USER 'root'@'localhost';\n"
	}
	command = slices.Concat(command, s.programs.args, []string{"--datadir=" + s.dataDir(), "--tmpdir=" + s.dir}, s.quick())
	log := filepath.Join(s.dir, "initialize.log")
	p, err := runner.Start(ctx, s.dir, log, command[0], command[1:]...)
	if err != nil {
		return err
	}
	select {
	case <-p.Done:
	case <-ctx.Done():
		p.Kill()
		<-p.Done
		return fmt.Errorf("mysqlserver: initializing: %w", context.Cause(ctx))
	}
	if p.Err != nil {
		return fmt.Errorf("mysqlserver: initializing: %w\n%s", p.Err, process.Tail(log))
	}
	for name, content := range s.opts.Files {
		if err := runner.WriteFile(filepath.Join(s.dataDir(), name), content); err != nil {
			return err
		}
	}
	return runner.WriteFile(s.initFile(), []byte("CREATE USER '"+superuser+"'@'%' IDENTIFIED BY '"+s.password()+"';\n"+
		"GRANT ALL ON *.* TO '"+superuser+"'@'%' WITH GRANT OPTION;\n"+others))
}

var errPortTaken = errors.New("mysqlserver: the port was taken by somebody else")

// run starts the server on its port and waits until it is ready.
func (s *Server) run(ctx context.Context, further ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := os.ReadFile(s.LogFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mysqlserver: %w", err)
	}
	args := slices.Concat(s.programs.server[1:], []string{"--no-defaults"}, s.programs.args, s.quick(), s.settings(), further)
	p, err := runner.Start(ctx, s.dataDir(), s.LogFile(), s.programs.server[0], args...)
	if err != nil {
		return err
	}
	s.proc = p

	// The servers tell of it in their log alone. Trying to connect until it
	// works would count as logins, and reach whoever has taken the port.
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.Done:
			if strings.Contains(process.Tail(s.LogFile()), "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("mysqlserver: the server ended while starting: %w\n%s", p.Err, process.Tail(s.LogFile()))
		case <-ctx.Done():
			return fmt.Errorf("mysqlserver: waiting for the server: %w", context.Cause(ctx))
		case <-tick.C:
			if log, err := os.ReadFile(s.LogFile()); err == nil && strings.Contains(string(log[len(before):]), readyText) {
				return nil
			}
		}
	}
}

// settings returns the server's arguments.
func (s *Server) settings() []string {
	m := map[string]string{
		"datadir":           s.dataDir(),
		"tmpdir":            s.dir, // TMPDIR may be closed to the server's user
		"bind_address":      host,
		"port":              strconv.Itoa(s.port),
		"socket":            s.Socket(),
		"pid_file":          filepath.Join(s.dir, "server.pid"),
		"skip_name_resolve": "ON",
	}
	tls := s.opts.Settings["ssl_cert"] != ""
	switch s.opts.Kind {
	case MariaDB:
		m["log_warnings"] = "2" // refused logins
		if !tls {
			m["ssl"] = "OFF" // 11.4 and newer make a certificate of their own
		}
	case MySQL:
		m["log_error_verbosity"] = "3" // refused logins
		m["mysqlx"] = "OFF"
		m["secure_file_priv"] = "NULL"
	}
	maps.Copy(m, s.opts.Settings)
	args := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		args = append(args, "--"+name+"="+m[name])
	}
	return args
}

// Restart stops the server, cutting the connections it has, and starts it again
// on the same data and the same port. It returns when the server is ready.
func (s *Server) Restart(ctx context.Context) error {
	s.end((*process.Process).Terminate)
	var err error
	for range portAttempts {
		// A port that was ours may be another's for a moment, of a connection
		// that goes out.
		if err = s.run(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return err
}

// end ends the process, if there is one, in the way given.
func (s *Server) end(how func(*process.Process)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	how(s.proc)
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case <-s.proc.Done:
	case <-timer.C:
		s.proc.Kill()
		<-s.proc.Done
	}
	s.proc = nil
}

// Stop ends the server, cutting the connections it has, and removes its folder.
// It waits for both, not longer than about ten seconds. Only the first call
// does anything; all return the same error.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		var err error
		if s.admin != nil {
			err = s.admin.Close()
		}
		s.end((*process.Process).Kill) // nobody needs the data any more
		// Killed installers leave children that end by themselves a moment later.
		for range 50 {
			if s.stopErr = os.RemoveAll(s.dir); s.stopErr == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if s.stopErr = errors.Join(err, s.stopErr); s.stopErr != nil {
			s.stopErr = fmt.Errorf("mysqlserver: %w", s.stopErr)
		}
	})
	return s.stopErr
}

// Kind returns the make of the server.
func (s *Server) Kind() Kind { return s.opts.Kind }

// Host returns the address the server listens on.
func (s *Server) Host() string { return host }

// Port returns the port the server listens on.
func (s *Server) Port() int { return s.port }

// Socket returns the path of the Unix socket the server listens on.
func (s *Server) Socket() string { return filepath.Join(s.dir, "sock") }

// Dir returns the folder that holds all files of the server.
func (s *Server) Dir() string { return s.dir }
