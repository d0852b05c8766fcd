// Package pgserver runs a private PostgreSQL server for tests and demos: a data
// folder of its own, a free port of 127.0.0.1, gone when the process is gone.
//
// It is no test package and does not import testing, because the programs in
// examples/ start one too. It does not replace a container: the binaries have
// to be on the machine (see [Start]).
package pgserver

import (
	"context"
	"crypto/rand"
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

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/redact"

	"github.com/keyturn/keyturn/internal/process"
)

// Options say how the server is run. The zero value is a server with
// PostgreSQL's own defaults, where durability is traded for speed.
type Options struct {
	// MaxConnections is the server's max_connections, of which PostgreSQL keeps
	// three for superusers. 0: 100.
	MaxConnections int

	// Settings are further server settings, as in postgresql.conf:
	// {"log_statement": "all"}. They win over those of this package.
	Settings map[string]string

	// Files are written into the data folder, readable by the server alone,
	// before it starts: certificates, mostly. A relative path in Settings
	// ("ssl_key_file": "server.key") is relative to that folder.
	Files map[string][]byte
}

const (
	host      = "127.0.0.1"
	superuser = "postgres"

	// logPrefix is what [Server.FailedLogins] parses: time in ms, pid, SQLSTATE, user.
	logPrefix = "%m [%p] %e %u "

	portAttempts = 10
	stopWait     = 10 * time.Second
)

// runner runs PostgreSQL's programs, and PgBouncer.
var runner = &process.Runner{Name: "pgserver", Users: []string{"postgres", "nobody"}, Quit: true}

// Server is a running PostgreSQL server. All methods may be called concurrently.
type Server struct {
	dir      string
	port     int
	password func() string // of the superuser
	cfg      *pgx.ConnConfig
	bin      string // folder of the programs
	opts     Options

	mu   sync.Mutex // protects proc
	proc *process.Process

	stop    sync.Once
	stopErr error
}

// Start starts a server and returns when it accepts connections.
//
// The binaries (initdb, postgres) are looked for in the folder that the
// environment variable KEYTURN_POSTGRES_BIN names, and nowhere else if it is
// set; then in PATH; then where Debian and Homebrew put them, newest first.
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
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keyturn-pg-")
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	s := &Server{dir: dir, password: redact.Hide(rand.Text()), bin: bin, opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := runner.HandOver(dir); err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	if err := s.initdb(ctx, bin, o.Files); err != nil {
		return nil, err
	}
	// The port is free when it is chosen, and may be taken when it is used:
	// there is no way to hand a listening socket to postgres.
	for range portAttempts {
		err = s.run(ctx)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, s.configure()
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "server.log") }

// initdb makes the data folder. The superuser's password goes through a file:
// everybody on the machine can read a command line.
func (s *Server) initdb(ctx context.Context, bin string, files map[string][]byte) error {
	pwfile := filepath.Join(s.dir, "pw")
	if err := runner.WriteFile(pwfile, []byte(s.password()+"\n")); err != nil {
		return err
	}
	log := filepath.Join(s.dir, "initdb.log")
	p, err := runner.Start(ctx, s.dir, log, filepath.Join(bin, "initdb"),
		"--pgdata="+s.dataDir(), "--username="+superuser, "--pwfile="+pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	select {
	case <-p.Done:
	case <-ctx.Done():
		p.Kill()
		<-p.Done
		return fmt.Errorf("pgserver: initdb: %w", context.Cause(ctx))
	}
	if p.Err != nil {
		return fmt.Errorf("pgserver: initdb: %w\n%s", p.Err, process.Tail(log))
	}
	if err := os.Remove(pwfile); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	for name, content := range files {
		if err := runner.WriteFile(filepath.Join(s.dataDir(), name), content); err != nil {
			return err
		}
	}
	return nil
}

var errPortTaken = errors.New("pgserver: the port was taken by somebody else")

// run starts postgres on a free port and waits until it is ready.
func (s *Server) run(ctx context.Context) error {
	port, err := runner.FreePort(host)
	if err != nil {
		return err
	}
	s.port = port
	if err := os.RemoveAll(s.LogFile()); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return s.launch(ctx)
}

// launch starts postgres on the port and waits until it is ready.
func (s *Server) launch(ctx context.Context) error {
	args := []string{"-D", s.dataDir()}
	settings := s.settings(s.opts)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	p, err := runner.Start(ctx, s.dataDir(), s.LogFile(), filepath.Join(s.bin, "postgres"), args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()

	// What pg_ctl does: the server writes its state into its pid file. Trying
	// to connect until it works would fill the log that tests count logins in.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.Done:
			if strings.Contains(process.Tail(s.LogFile()), "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("pgserver: postgres ended while starting: %w\n%s", p.Err, process.Tail(s.LogFile()))
		case <-ctx.Done():
			return fmt.Errorf("pgserver: waiting for postgres: %w", context.Cause(ctx))
		case <-tick.C:
			pid, _ := os.ReadFile(filepath.Join(s.dataDir(), "postmaster.pid"))
			lines := strings.Split(string(pid), "\n")
			if len(lines) > 7 && slices.Contains([]string{"ready", "standby"}, strings.TrimSpace(lines[7])) {
				return nil
			}
		}
	}
}

func (s *Server) settings(o Options) map[string]string {
	connections := 100
	if o.MaxConnections > 0 {
		connections = o.MaxConnections
	}
	m := map[string]string{
		"listen_addresses":        host,
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": "",
		"max_connections":         strconv.Itoa(connections),
		"shared_buffers":          "16MB",
		"fsync":                   "off",
		"synchronous_commit":      "off",
		"full_page_writes":        "off",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_connections":         "on",
		"log_line_prefix":         logPrefix,
		"lc_messages":             "C",
	}
	maps.Copy(m, o.Settings)
	return m
}

// configure parses the superuser's configuration once. The password stays out
// of it until somebody asks: a pgx configuration prints what it holds.
func (s *Server) configure() error {
	cfg, err := pgx.ParseConfig(fmt.Sprintf(
		"host=%s port=%d user=%s password=none dbname=postgres sslmode=disable", host, s.port, superuser))
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	cfg.Password = ""
	s.cfg = cfg
	return nil
}

// Stop ends the server, cutting the connections it has, and removes its folder.
// It waits for both, not longer than about ten seconds. Only the first call
// does anything; all return the same error.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		s.Interrupt()
		// Killed servers leave children that end by themselves a moment later.
		for range 50 {
			if s.stopErr = os.RemoveAll(s.dir); s.stopErr == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		s.stopErr = fmt.Errorf("pgserver: %w", s.stopErr)
	})
	return s.stopErr
}

// Interrupt ends the server, cutting the connections it has, as a restart and a
// failover do, and keeps its data, its port and its log. It waits for the end, not
// longer than about ten seconds.
func (s *Server) Interrupt() {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return
	}
	p.Interrupt()
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case <-p.Done:
	case <-timer.C:
		p.Kill()
		<-p.Done
	}
}

// Resume starts the server again after [Server.Interrupt], on the same port, and
// returns when it accepts connections. It fails if somebody else has taken the
// port meanwhile.
func (s *Server) Resume(ctx context.Context) error { return s.launch(ctx) }

// Host returns the address the server listens on.
func (s *Server) Host() string { return host }

// Port returns the port the server listens on.
func (s *Server) Port() int { return s.port }

// Dir returns the folder that holds all files of the server.
func (s *Server) Dir() string { return s.dir }

// ConnConfig returns a new configuration that logs in as superuser, to the
// database "postgres". It holds the password in a plain field: do not print it.
func (s *Server) ConnConfig() *pgx.ConnConfig {
	cfg := s.cfg.Copy()
	cfg.Password = s.password()
	return cfg
}
