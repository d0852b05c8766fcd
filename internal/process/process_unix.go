//go:build unix

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// A Process is a child process that is waited for.
type Process struct {
	Done chan struct{} // closed when the process is gone
	Err  error         // how it ended, read after Done

	cmd *exec.Cmd
}

// Start runs a program in dir, as a user that the server accepts, with its
// output in a log file. Its process group is its own: an interrupt typed into
// the terminal is for us, and we decide when the server stops.
func (r *Runner) Start(ctx context.Context, dir, log, name string, args ...string) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, r.fail(context.Cause(ctx))
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, r.fail(err)
	}
	defer func() { _ = out.Close() }()
	cred, err := r.credential()
	if err != nil {
		return nil, err
	}

	// Not CommandContext: the context ends the start, not the server.
	cmd := exec.Command(name, args...) //nolint:noctx // see above
	cmd.Dir = dir                      // ours may be closed to the server's user
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	p := &Process{cmd: cmd, Done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent that the kernel watches (see startTied) is the thread that
		// forked, not the process: were this goroutine to move on and the
		// runtime to end its thread, the server would die. golang/go#27505
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		release, err := startTied(cmd, r.death())
		started <- err
		if err != nil {
			return
		}
		p.Err = cmd.Wait()
		release()
		close(p.Done)
	}()
	if err := <-started; err != nil {
		return nil, r.fail(err)
	}
	return p, nil
}

// Interrupt sends SIGINT: PostgreSQL's fast shutdown.
func (p *Process) Interrupt() { _ = p.cmd.Process.Signal(syscall.SIGINT) }

// Terminate sends SIGTERM: a clean end, of MySQL with everything written.
func (p *Process) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// HangUp sends SIGHUP: to read the configuration again.
func (p *Process) HangUp() { _ = p.cmd.Process.Signal(syscall.SIGHUP) }

// Kill ends the process and its group at once. It must not be called after Done
// is closed: the number may be another's by then.
func (p *Process) Kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// death is the signal that ends the programs when we end.
func (r *Runner) death() syscall.Signal {
	if r.Quit {
		return syscall.SIGQUIT
	}
	return syscall.SIGKILL
}

// credential returns the user to run the server as, which refuses to run as root;
// nil if we are not root.
func (r *Runner) credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range r.Users {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: user %s: %w", r.Name, name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("%s: the server does not run as root, and there is no user %s to run it as", r.Name, strings.Join(r.Users, " or "))
}

// Supported reports why no server can run here, if so.
func (r *Runner) Supported() error {
	_, err := r.credential()
	return err
}

// HandOver makes a file or folder the server's.
func (r *Runner) HandOver(path string) error {
	cred, err := r.credential()
	if err != nil || cred == nil {
		return err
	}
	return os.Chown(path, int(cred.Uid), int(cred.Gid))
}
