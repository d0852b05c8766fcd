// Command soak runs Keyturn's pools for a long time on real servers, PostgreSQL,
// MariaDB and MySQL, while their passwords are rotated every few seconds and everything
// around them breaks, in an order that a seed decides: Secrets Manager, the network, the
// servers, the rotations, and who edits the secrets. Beside them it runs pools of the
// bare drivers, whose passwords never change.
//
// What a bare driver would have had an error from too is no error of Keyturn's: see
// judge.go. There is to be no other, and nothing may leak.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The exit status.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// The servers are this program's own. What the shell says of another one goes before
	// what a secret says, as it should, but not here.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // the second signal ends the process
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&s.length, "for", 5*time.Minute, "`time` that the faults go on")
	flags.Uint64Var(&s.seed, "seed", 1, "what decides on the faults and their order")
	asJSON := flags.Bool("json", false, "the report as JSON, and progress on standard error")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "soak: %q is not a flag, and there are no arguments\n", flags.Arg(0))
		return exitUsage
	case s.length <= 0:
		_, _ = fmt.Fprintf(stderr, "soak: -for is %v; it must be more than nothing\n", s.length)
		return exitUsage
	}
	progress := stdout
	if *asJSON {
		progress = stderr
	}
	r, err := soakFor(ctx, s, progress)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "soak: %v\n", err)
	}
	if r == nil {
		return exitFailed
	}
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(r) // as for what is printed: who does not read it has been told
	} else {
		r.print(stdout)
	}
	if err != nil || len(r.Faulty) > 0 {
		return exitFailed
	}
	return exitOK
}

// soakFor starts everything, runs it, and ends it.
func soakFor(ctx context.Context, s settings, progress io.Writer) (r *report, err error) {
	_, _ = fmt.Fprintf(progress, "soak: %v of faults with seed %d; starting the servers ...\n", s.length, s.seed)
	so, err := start(ctx, s, progress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, so.close()) }()
	return so.play(ctx)
}
