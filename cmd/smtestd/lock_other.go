//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package main

import (
	"fmt"
	"io"
	"runtime"
)

// lockFile cannot keep a second server away here.
func lockFile(string) (io.Closer, error) {
	return nil, fmt.Errorf("files cannot be locked on %s", runtime.GOOS)
}

func syncFolder(string) error { return nil }
