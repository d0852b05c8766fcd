//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime returns the time that the processors have spent on this process, in its
// own code and in the system's on its behalf.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
