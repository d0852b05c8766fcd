package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/internal/process"
)

// Replica makes a streaming replica of the server, on a port of its own, and
// returns when it accepts connections. It has the superuser's password and the
// settings of opts, not those of s, and runs until its Stop. pg_basebackup has to
// be where postgres is.
func (s *Server) Replica(ctx context.Context, opts *Options) (_ *Server, err error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	dir, err := os.MkdirTemp("", "keyturn-pg-")
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	r := &Server{dir: dir, password: s.password, bin: s.bin, opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop())
		}
	}()
	if err := runner.HandOver(dir); err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	// The replica reads the password from there too, whenever it connects.
	pass := filepath.Join(dir, "pass")
	line := fmt.Sprintf("%s:%d:*:%s:%s\n", host, s.port, superuser, s.password())
	if err := runner.WriteFile(pass, []byte(line)); err != nil {
		return nil, err
	}
	if err := r.copy(ctx, fmt.Sprintf("host=%s port=%d user=%s passfile=%s", host, s.port, superuser, pass)); err != nil {
		return nil, err
	}
	for range portAttempts {
		err = r.run(ctx)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return r, r.configure()
}

// copy makes the data folder from the server that the string says how to reach.
func (s *Server) copy(ctx context.Context, conninfo string) error {
	log := filepath.Join(s.dir, "basebackup.log")
	p, err := runner.Start(ctx, s.dir, log, s.program("pg_basebackup"), "--dbname="+conninfo, "--pgdata="+s.dataDir(),
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if err != nil {
		return err
	}
	select {
	case <-p.Done:
	case <-ctx.Done():
		p.Kill()
		<-p.Done
		return fmt.Errorf("pgserver: pg_basebackup: %w", context.Cause(ctx))
	}
	if p.Err != nil {
		return fmt.Errorf("pgserver: pg_basebackup: %w\n%s", p.Err, process.Tail(log))
	}
	return nil
}

// program returns the path of one that is not always beside those that are looked
// for: a link to postgres may be alone in its folder.
func (s *Server) program(name string) string {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		if target, err := filepath.EvalSymlinks(filepath.Join(s.bin, "postgres")); err == nil {
			path = filepath.Join(filepath.Dir(target), name)
		}
	}
	return path
}
