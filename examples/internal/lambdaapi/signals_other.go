//go:build !unix

package lambdaapi

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
)

var errSignals = fmt.Errorf("lambdaapi: signals of %s: %w", runtime.GOOS, errors.ErrUnsupported)

func ownGroup(*exec.Cmd) {}

func (*Function) stop() error { return errSignals }

func (*Function) cont() error { return errSignals }

// Goroutines returns an error here.
func (*Function) Goroutines(context.Context) ([]string, error) { return nil, errSignals }
