//go:build !unix

package main

import "time"

// processorTime is not known here. The servers do not run here either.
func processorTime() time.Duration { return 0 }
