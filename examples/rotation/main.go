// Command rotation shows what the rotation of a database password does to a
// program that uses the database meanwhile.
//
// Two pools of connections do the same work at the same time on one PostgreSQL
// server. One reads its password as most programs do, from a cache with a TTL
// (plain.go); the other goes through Keyturn (keyturn.go). Their passwords are
// rotated at the same moments (rotate.go). The rest of the program counts, and
// draws what it has counted (picture.go).
package main

import (
	"context"
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
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	// The demo has a server of its own. What the shell says of another one goes
	// before what a secret says, as it should, but not here.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(run(interruptible(), os.Args[1:], os.Stdout, os.Stderr))
}

// interruptible returns a context that the first signal ends. The second ends
// the process, and the server with it; only the server's folder stays behind.
func interruptible() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	// SIGPIPE is what `demo | head` sends.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		<-signals
		cancel()
		for s := range signals {
			if s != syscall.SIGPIPE { // every further line sends one
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx
}

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage(stdout)
		return exitOK
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "rotation: %v\nRun it with -h for help.\n", err)
		return exitUsage
	}

	_, _ = fmt.Fprintln(stdout, "Two pools under the same load while their passwords are rotated: \"plain\" has its\n"+
		"password from a cache with a TTL, \"Keyturn\" through this library. Starting ...")
	var result report
	d, err := start(ctx, s)
	if err == nil {
		result, err = d.play(ctx, newDisplay(stdout, s))
		err = errors.Join(err, d.close())
	}
	switch {
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "rotation: interrupted; the servers are stopped and their files removed")
		return exitInterrupted
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "rotation: %v\n", err)
		return exitFailed
	}
	result.print(stdout)
	// The files come last: if one cannot be written, the report has been seen.
	if err := result.save(s, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "rotation: %v\n", err)
		return exitFailed
	}
	if !result.good() {
		return exitFailed
	}
	return exitOK
}

// settings are what the flags say.
type settings struct {
	duration  time.Duration
	workers   int
	rotations int
	window    time.Duration
	pause     time.Duration
	plainTTL  time.Duration
	html, svg string // files to write; "" for none
}

const (
	// margin is the time without a rotation at either end.
	margin = time.Second

	// maxWorkers keeps the server within what a small machine can hold.
	maxWorkers = 200
)

// parse reads the flags. Its error is flag.ErrHelp if help is asked for.
func parse(args []string) (settings, error) {
	var s settings
	f := flags(&s)
	f.SetOutput(io.Discard) // we print the error ourselves, and the help only when asked
	if err := f.Parse(args); err != nil {
		return s, err
	}
	switch {
	case f.NArg() > 0:
		return s, fmt.Errorf("%q is not a flag, and there are no arguments", f.Arg(0))
	case s.workers < 1 || s.workers > maxWorkers:
		return s, fmt.Errorf("-workers is %d; it must be from 1 to %d", s.workers, maxWorkers)
	case s.rotations < 1:
		return s, fmt.Errorf("-rotations is %d; it must be at least 1", s.rotations)
	case s.window < 0:
		return s, fmt.Errorf("-window is %v; it cannot be negative", s.window)
	case s.pause < 0:
		return s, fmt.Errorf("-pause is %v; it cannot be negative", s.pause)
	case s.plainTTL < 0:
		return s, fmt.Errorf("-plain-ttl is %v; it cannot be negative", s.plainTTL)
	case s.duration < 0:
		return s, fmt.Errorf("-duration is %v; it cannot be negative", s.duration)
	case s.duration > 0 && s.duration < 2*margin+s.window:
		return s, fmt.Errorf("-duration is %v; one rotation with a second on either side needs %v", s.duration, 2*margin+s.window)
	}
	return s, nil
}

func flags(s *settings) *flag.FlagSet {
	f := flag.NewFlagSet("rotation", flag.ContinueOnError)
	f.DurationVar(&s.duration, "duration", 0, "`time` the load runs (0: the rotations and a second on either side)")
	f.IntVar(&s.workers, "workers", 16, "`number` of workers, and of connections, of each pool")
	f.IntVar(&s.rotations, "rotations", 5, "`number` of rotations")
	f.DurationVar(&s.window, "window", time.Second, "`time` between setSecret, when the server takes the new password,\nand finishSecret, when AWSCURRENT moves to it")
	f.DurationVar(&s.pause, "pause", 2*time.Second, "`time` between two rotations")
	f.DurationVar(&s.plainTTL, "plain-ttl", time.Second, "`time` the plain pool keeps a password; one second is generous to it:\nAWS's caching libraries keep it for an hour unless told otherwise")
	f.StringVar(&s.html, "html", "", "`file` to write the run to as a page with a picture; it refers to nothing\noutside of itself (make demo: keyturn-demo.html)")
	f.StringVar(&s.svg, "svg", "", "`file` to write the picture alone to, like docs/demo.svg")
	return f
}

func usage(w io.Writer) {
	_, _ = fmt.Fprint(w, `Rotates a database password under load, before two pools of connections: one
that caches its password with a TTL, and one that goes through Keyturn. It starts
a private PostgreSQL server, and Secrets Manager in process; nothing of either
stays behind. The binaries of PostgreSQL must be installed; the environment
variable KEYTURN_POSTGRES_BIN names their folder if they are not found.

Usage: rotation [flags]

`)
	var s settings
	f := flags(&s)
	f.SetOutput(w)
	f.PrintDefaults()
	_, _ = fmt.Fprint(w, `
On a terminal the display is redrawn in place; NO_COLOR and TERM=dumb are
honoured. Otherwise there is one line per second.

Exit status: 0 if the Keyturn pool had no failed query and no more failed logins
than cannot be avoided, while the plain pool did fail; 1 if not, or if something
does not work; 2 for a wrong flag; 130 after Ctrl-C.
`)
}
