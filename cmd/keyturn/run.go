package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	exitHealthy   = 0
	exitProblem   = 1
	exitUsage     = 2
	exitUnchecked = 3
)

// deps are what run needs of the world.
type deps struct {
	// connect returns the clients for the command line.
	connect func(context.Context, settings) (clients, error)

	now   func() time.Time
	width int // of the terminal, in columns; 0: there is none
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, d deps) int {
	s, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return exitHealthy
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "keyturn: %v\nkeyturn -h explains the flags\n", err)
		return exitUsage
	case s.version:
		_, _ = fmt.Fprintln(stdout, version())
		return exitHealthy
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c, err := d.connect(ctx, s)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "keyturn: %v\n", err)
		return exitUnchecked
	}
	r := report{Secret: s.secret, Region: c.region, Time: d.now().UTC(), Findings: check(ctx, s, c, d.now())}
	r.Status = worst(r.Findings)
	write := r.table
	if s.json {
		write = func(w io.Writer, _ int) error { return r.json(w) }
	}
	if err := write(stdout, d.width); err != nil {
		_, _ = fmt.Fprintf(stderr, "keyturn: writing the report: %v\n", err)
		return exitUnchecked
	}
	switch r.Status {
	case Problem:
		return exitProblem
	case Unknown:
		return exitUnchecked
	default:
		return exitHealthy
	}
}

// check runs the checks, in the order of the report. What one cannot know it says,
// and the others go on.
func check(ctx context.Context, s settings, c clients, now time.Time) []Finding {
	findings := []Finding{whoAmI(ctx, c.identity, c.region)}
	snap := look(ctx, c.secrets, s.secret, c.region)
	cmd := newCommands(s, snap.primaryRegion())
	findings = append(findings, secretFindings(snap, cmd)...)
	findings = append(findings, accessFindings(snap)...)
	findings = append(findings, versionFindings(snap, now)...)
	values, found := readValues(ctx, snap)
	findings = append(findings, found...)
	findings = append(findings, rotationFindings(snap, cmd, now)...)
	var logins []login
	if s.login {
		l := loginRun{api: c.secrets, snap: snap, values: values, replicas: s.replicas}
		logins, found = l.run(ctx)
		findings = append(findings, found...)
	}
	return append(findings, stuckFindings(snap, logins, cmd, now)...)
}

// version is the module's version, as the go command recorded it.
func version() string {
	v := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return "keyturn " + v + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
