//go:build unix

package lambdaapi

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// ownGroup gives the process a group of its own: an interrupt typed into the
// terminal is not for it, and POSIX has a group that lost its parent while it was
// stopped hung up, so that no frozen process is left behind.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func (f *Function) stop() error { return f.signal(syscall.SIGSTOP) }

func (f *Function) cont() error { return f.signal(syscall.SIGCONT) }

func (f *Function) signal(s syscall.Signal) error {
	if err := f.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("lambdaapi: %w", err)
	}
	return nil
}

// Goroutines ends the process with SIGQUIT and returns the stacks of all its
// goroutines but the runtime's own, one each, as the Go runtime writes them:
// "goroutine 1 [select]:" and so on. It may be called while an Invoke is on, which
// then fails.
func (f *Function) Goroutines(ctx context.Context) ([]string, error) {
	if err := f.thaw(); err != nil {
		return nil, err
	}
	if err := f.signal(syscall.SIGQUIT); err != nil {
		return nil, err
	}
	select {
	case <-f.gone:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	_, dump, found := strings.Cut(f.Log(), "SIGQUIT: quit\n")
	if !found {
		return nil, errors.New("lambdaapi: the Go runtime has written no stacks:\n" + f.Log())
	}
	var stacks []string
	for stack := range strings.SplitSeq(dump, "\n\n") {
		stack = strings.TrimSpace(stack)
		// Goroutine 0 is the thread that took the signal.
		if strings.HasPrefix(stack, "goroutine ") && !strings.HasPrefix(stack, "goroutine 0 ") &&
			!strings.Contains(stack, "\ncreated by runtime.") {
			stacks = append(stacks, stack)
		}
	}
	return stacks, nil
}
