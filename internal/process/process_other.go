//go:build !unix

package process

import (
	"context"
	"fmt"
	"runtime"
)

// Supported reports why no server can run here.
func (r *Runner) Supported() error {
	return fmt.Errorf("%s: not on %s: run it on Linux or macOS, or in the Windows Subsystem for Linux", r.Name, runtime.GOOS)
}

// The rest is never called.

type Process struct {
	Done chan struct{}
	Err  error
}

func (r *Runner) Start(context.Context, string, string, string, ...string) (*Process, error) {
	return nil, r.Supported()
}

func (*Process) Interrupt() {}

func (*Process) Terminate() {}

func (*Process) HangUp() {}

func (*Process) Kill() {}

func (*Runner) HandOver(string) error { return nil }
