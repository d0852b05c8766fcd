package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/process"
)

// bouncerEnv names a folder with pgbouncer.
const bouncerEnv = "KEYTURN_PGBOUNCER_BIN"

// ErrNoBouncer says that PgBouncer is not on this machine.
var ErrNoBouncer = errors.New("pgserver: no PgBouncer found: install it (Debian, Ubuntu: scripts/setup pgbouncer; " +
	"Homebrew: brew install pgbouncer), or set " + bouncerEnv + " to the folder of pgbouncer")

// BouncerOptions say how a PgBouncer is run.
type BouncerOptions struct {
	// Users, by name, are what is in its own list of users: their passwords, or what
	// PostgreSQL stores in the place of those. Users who are not in there are looked
	// up on the server, at each login.
	Users map[string]string

	// NoLookup is whether users are not looked up on the server.
	NoLookup bool

	// Databases are the databases it knows. Default: whatever the server has.
	Databases []string

	// Settings are further settings, as in pgbouncer.ini.
	Settings map[string]string

	// Files are written into its folder, before it starts, which paths in Settings
	// are relative to.
	Files map[string][]byte
}

// Bouncer is a running PgBouncer in front of a Server. All methods may be called
// concurrently.
type Bouncer struct {
	srv  *Server
	dir  string
	port int
	proc *process.Process

	stop    sync.Once
	stopErr error
}

// StartBouncer starts a PgBouncer and returns when it accepts connections. It is
// found as [Start] says, with KEYTURN_PGBOUNCER_BIN. Call [Bouncer.Stop], before the
// server's.
func StartBouncer(ctx context.Context, srv *Server, opts *BouncerOptions) (_ *Bouncer, err error) {
	var o BouncerOptions
	if opts != nil {
		o = *opts
	}
	bin, err := findBouncer()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keyturn-pgbouncer-")
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	b := &Bouncer{srv: srv, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop())
		}
	}()
	if err := runner.HandOver(dir); err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	if err := b.writeUsers(o.Users); err != nil {
		return nil, err
	}
	for name, content := range o.Files {
		if err := runner.WriteFile(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	for range portAttempts {
		err = b.run(ctx, bin, o)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func findBouncer() (string, error) {
	if dir := os.Getenv(bouncerEnv); dir != "" {
		return filepath.Join(dir, "pgbouncer"), nil
	}
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBouncer
}

// LogFile returns the path of its log.
func (b *Bouncer) LogFile() string { return filepath.Join(b.dir, "pgbouncer.log") }

// Host returns the address that it listens on.
func (b *Bouncer) Host() string { return host }

// Port returns the port that it listens on.
func (b *Bouncer) Port() int { return b.port }

// SetUsers replaces its own list of users, as an administrator would, and has it read
// that. It does so in a moment.
func (b *Bouncer) SetUsers(users map[string]string) error {
	if err := b.writeUsers(users); err != nil {
		return err
	}
	b.proc.HangUp()
	return nil
}

// Stop ends it and removes its folder. Only the first call does anything; all return
// the same error.
func (b *Bouncer) Stop() error {
	b.stop.Do(func() {
		if b.proc != nil {
			b.proc.Terminate()
			timer := time.NewTimer(stopWait)
			defer timer.Stop()
			select {
			case <-b.proc.Done:
			case <-timer.C:
				b.proc.Kill()
				<-b.proc.Done
			}
		}
		if err := os.RemoveAll(b.dir); err != nil {
			b.stopErr = fmt.Errorf("pgserver: %w", err)
		}
	})
	return b.stopErr
}

// writeUsers writes the list of users, with the superuser, who looks up the others.
func (b *Bouncer) writeUsers(users map[string]string) error {
	all := map[string]string{superuser: b.srv.password()}
	maps.Copy(all, users)
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&list, "%s %s\n", quote(name), quote(all[name]))
	}
	// It may be reading the one there is.
	path := filepath.Join(b.dir, "users.txt")
	if err := runner.WriteFile(path+".new", []byte(list.String())); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}

// run starts PgBouncer on a free port and waits until it listens.
func (b *Bouncer) run(ctx context.Context, bin string, o BouncerOptions) error {
	port, err := runner.FreePort(host)
	if err != nil {
		return err
	}
	b.port = port
	settings := map[string]string{
		"listen_addr":     host,
		"listen_port":     strconv.Itoa(port),
		"unix_socket_dir": "",
		"auth_type":       "scram-sha-256",
		"auth_file":       filepath.Join(b.dir, "users.txt"),
		"auth_user":       superuser,
		// How long a failed login of its own stands for all. With 0 it tells nobody.
		"server_login_retry": "1",
	}
	if o.NoLookup {
		delete(settings, "auth_user")
	}
	maps.Copy(settings, o.Settings)
	databases := o.Databases
	if databases == nil {
		databases = []string{"*"}
	}
	var ini strings.Builder
	ini.WriteString("[databases]\n")
	for _, name := range databases {
		fmt.Fprintf(&ini, "%s = host=%s port=%d\n", name, b.srv.Host(), b.srv.Port())
	}
	ini.WriteString("[pgbouncer]\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, settings[name])
	}
	config := filepath.Join(b.dir, "pgbouncer.ini")
	if err := runner.WriteFile(config, []byte(ini.String())); err != nil {
		return err
	}
	p, err := runner.Start(ctx, b.dir, b.LogFile(), bin, config)
	if err != nil {
		return err
	}
	b.proc = p
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.Done:
			if log := process.Tail(b.LogFile()); !strings.Contains(log, "in use") {
				return fmt.Errorf("pgserver: pgbouncer ended while starting: %w\n%s", p.Err, log)
			}
			return errPortTaken
		case <-ctx.Done():
			return fmt.Errorf("pgserver: waiting for pgbouncer: %w", context.Cause(ctx))
		case <-tick.C:
			if strings.Contains(process.Tail(b.LogFile()), "process up") {
				return nil
			}
		}
	}
}
