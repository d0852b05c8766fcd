//go:build unix

package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// process is a child process that is waited for.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	err  error         // how it ended, read after done
}

// start runs a program in dir, as a user that PostgreSQL accepts, with its
// output in a log file. Its process group is its own: an interrupt typed into
// the terminal is for us, and we decide when the server stops.
func start(ctx context.Context, dir, log, name string, args ...string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pgserver: %w", context.Cause(ctx))
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	defer func() { _ = out.Close() }()
	cred, err := credential()
	if err != nil {
		return nil, err
	}

	// Not CommandContext: the context ends the start, not the server.
	cmd := exec.Command(name, args...) //nolint:noctx // see above
	cmd.Dir = dir                      // ours may be closed to the server's user
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent that the kernel watches (see dieWithUs) is the thread that
		// forked, not the process: were this goroutine to move on and the
		// runtime to end its thread, the server would die. golang/go#27505
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		release, err := startTied(cmd)
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		release()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return p, nil
}

// interrupt asks postgres for a fast shutdown: no new connections, the present
// ones cut, a clean end.
func (p *process) interrupt() { _ = p.cmd.Process.Signal(syscall.SIGINT) }

// terminate asks PgBouncer to end at once.
func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// hangUp asks PgBouncer to read its files again.
func (p *process) hangUp() { _ = p.cmd.Process.Signal(syscall.SIGHUP) }

// kill ends the process and its group at once. It must not be called after done
// is closed: the number may be another's by then.
func (p *process) kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// credential returns the user to run PostgreSQL as, which refuses to run as
// root; nil if we are not root.
var credential = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("pgserver: user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgserver: PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
})

// supported reports why no server can run here, if so.
func supported() error {
	_, err := credential()
	return err
}

// handOver makes a file or folder the server's.
func handOver(path string) error {
	cred, err := credential()
	if err != nil || cred == nil {
		return err
	}
	return os.Chown(path, int(cred.Uid), int(cred.Gid))
}
