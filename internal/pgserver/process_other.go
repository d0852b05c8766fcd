//go:build !unix

package pgserver

import (
	"context"
	"errors"
	"runtime"
)

func supported() error {
	return errors.New("pgserver: not on " + runtime.GOOS +
		": run it on Linux or macOS, or in the Windows Subsystem for Linux")
}

// The rest is never called.

type process struct {
	done chan struct{}
	err  error
}

func start(context.Context, string, string, string, ...string) (*process, error) {
	return nil, supported()
}

func (*process) interrupt() {}

func (*process) terminate() {}

func (*process) hangUp() {}

func (*process) kill() {}

func handOver(string) error { return nil }
