package main

import "flag"

// Run is the program, in the test's process.
var Run = run

// Main is the program, in a process of its own.
var Main = main

// Guard keeps panics from the log.
var Guard = guard

// Usage is what -h prints.
const Usage = usage

// Flags returns the command line's flags.
func Flags() *flag.FlagSet { return new(config).flags() }
