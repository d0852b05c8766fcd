package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	godriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

func pgError(code string) error { return &pgconn.PgError{Code: code} }

func reset() error {
	return &net.OpError{Op: "read", Net: "tcp", Err: fmt.Errorf("read: %w", syscall.ECONNRESET)}
}

func TestRead(t *testing.T) {
	denied := &cache.Error{SecretID: "s", Err: errors.New("denied")}
	for _, test := range []struct {
		name string
		err  error
		want symptom
	}{
		{"no version", &retry.Error{SecretID: "s", Err: pgError("28P01")}, refused},
		{"no version, and the cause is a deadline", &retry.Error{Err: pgError("28P01"), Cause: context.DeadlineExceeded}, refused},
		{"no version, in what pgx makes of it", errors.Join(errors.New("dial error"), fmt.Errorf("hook: %w", &retry.Error{Err: reset()})), refused},
		{"no version, as what a dial function gave", &net.OpError{Op: "dial", Err: &retry.Error{Err: reset()}}, refused},
		{"refused", pgError("28P01"), refused},
		{"refused by MySQL", fmt.Errorf("login: %w", &godriver.MySQLError{Number: 1045}), refused},
		{"the cache's", denied, unread},
		{"the cache's, of a broken connection", &cache.Error{SecretID: "s", Err: reset()}, unread},
		{"closed", fmt.Errorf("connect: %w", cache.ErrClosed), unread},
		{"reset", fmt.Errorf("failed to connect: %w", reset()), broken},
		{"end of file", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), broken},
		{"driver.ErrBadConn", driver.ErrBadConn, broken},
		{"mysql.ErrInvalidConn", godriver.ErrInvalidConn, broken},
		{"go-sql-driver's own", fmt.Errorf("dbconn: logging in: %w", errors.New("bad connection")), broken},
		{"refused, then reset", errors.Join(pgError("28000"), reset(), errors.New("dial error: not tried again")), broken},
		{"refused, then refused", errors.Join(pgError("28000"), pgError("28P01"), errors.New("dial error: not tried again")), refused},
		{"reset, then refused", errors.Join(reset(), pgError("28P01")), refused},
		{"shutting down", pgError("57P01"), stopped},
		{"shutting down, MySQL", &godriver.MySQLError{Number: 1053}, stopped},
		{"no connection left", pgError("53300"), crowded},
		{"no connection left, MySQL", &godriver.MySQLError{Number: 1040}, crowded},
		{"deadline", fmt.Errorf("query: %w", context.DeadlineExceeded), late},
		{"canceled by somebody else", context.Canceled, unexplained},
		{"another of PostgreSQL's", pgError("42501"), unexplained},
		{"another of MySQL's", &godriver.MySQLError{Number: 1064}, unexplained},
		{"anything", errors.New("anything"), unexplained},
	} {
		if got := read(test.err); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// What a fault explains, and what none does.
func TestJudge(t *testing.T) {
	refusal := &retry.Error{SecretID: "s", Err: pgError("28P01")}
	for _, test := range []struct {
		name     string
		database string // of the fault
		fault    kind
		lasts    time.Duration
		after    time.Duration // from the end of the fault to that of the query
		took     time.Duration // the query
		err      error
		excused  bool
	}{
		{"in the fault", "db", netReset, time.Second, 0, 10 * time.Millisecond, reset(), true},
		{"a moment after it", "db", netReset, time.Second, grace, 10 * time.Millisecond, reset(), true},
		{"long after it", "db", netReset, time.Second, grace + time.Second, 10 * time.Millisecond, reset(), false},
		{"begun in it", "db", netHole, time.Second, memory - time.Second, memory, io.EOF, true},
		{"begun in it, a minute ago", "db", netHole, time.Second, time.Minute, 2 * time.Minute, io.EOF, false},
		{"of another database", "other", netReset, time.Second, 0, 10 * time.Millisecond, reset(), false},
		{"another fault", "db", dbCrowded, time.Second, 0, 10 * time.Millisecond, reset(), false},
		{"a slow network breaks nothing", "db", netSlow, time.Second, 0, 10 * time.Millisecond, reset(), false},
		{"no connection left", "db", dbCrowded, time.Second, 0, 10 * time.Millisecond, pgError("53300"), true},
		{"no connection left, and enough of them", "db", netReset, time.Second, 0, 10 * time.Millisecond, pgError("53300"), false},
		{"restart", "db", dbRestart, time.Second, 0, 10 * time.Millisecond, pgError("57P03"), true},
		{"refused, in a fault of the network", "db", netReset, time.Second, 0, 10 * time.Millisecond, refusal, false},
		{"refused, in a restart", "db", dbRestart, time.Second, 0, 10 * time.Millisecond, pgError("28P01"), false},
		{"refused, the service down", "", smDown, time.Second, 0, 10 * time.Millisecond, refusal, false},
		{"reset, the service down", "", smDown, time.Second, 0, 10 * time.Millisecond, reset(), false},
		{"not read, the service denying", "", smDenied, time.Second, 0, 10 * time.Millisecond, &cache.Error{Err: errors.New("denied")}, false},
		{"late, the rotation failed", "", rotationFails, time.Minute, 0, time.Minute, context.DeadlineExceeded, false},
		{"late, half of it in the fault", "db", netHole, 5 * time.Second, 0, time.Minute, context.DeadlineExceeded, true},
		{"late, little of it in the fault", "db", netHole, 2 * time.Second, 0, time.Minute, context.DeadlineExceeded, false},
		{"late, the fault is over", "db", netHole, 5 * time.Second, 8 * time.Second, time.Minute, context.DeadlineExceeded, false},
		{"a bug", "db", dbRestart, time.Second, 0, 10 * time.Millisecond, errors.New("a bug"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var faults faultLog
				began := time.Now()
				if d := test.lasts + test.after - test.took; d >= 0 {
					began = began.Add(d)
				} else {
					time.Sleep(-d) // the fault comes in the midst of the query
				}
				end := faults.begin(test.database, test.fault)
				time.Sleep(test.lasts)
				end()
				time.Sleep(test.after)
				v := faults.judge("db", test.err, began, time.Now())
				if want := map[bool]kind{true: test.fault}[test.excused]; v.excuse != want {
					t.Errorf("%+v, want it excused by %q", v, want)
				}
			})
		})
	}
}

// A fault that is not over yet excuses as one that is.
func TestJudgeUnderWay(t *testing.T) {
	var faults faultLog
	began := time.Now()
	faults.begin("db", netReset)
	if v := faults.judge("db", reset(), began, time.Now()); v.excuse != netReset {
		t.Errorf("%+v", v)
	}
	if v := faults.judge("db", reset(), began.Add(-time.Minute), began.Add(-time.Second)); v.excuse != "" {
		t.Error("a fault excuses what was before it")
	}
}

// good is a report with nothing to blame.
func good() *report {
	rest := resources{Goroutines: 10, Files: 10, Heap: 1 << 20}
	return &report{
		Took:     enough,
		Pools:    []*result{{Database: "db", Name: "pool", Queries: 1000, Excused: 60, Control: 50, Rotations: 1, Failed: 3, Allowed: 3}},
		Controls: []*result{{Database: "db", Name: "bare", Queries: 1000, Excused: 50}},
		Start:    rest, End: rest,
	}
}

// Each of what a run is to find has it fail, and the last line say so.
func TestReportJudges(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*report)
		want   string // "": it has passed
	}{
		{"good", func(*report) {}, ""},
		{"an error", func(r *report) { r.Pools[0].Ours = 1 }, "pool: 1 errors that the bare driver"},
		{"more errors than the bare driver's", func(r *report) { r.Pools[0].Excused = 151 }, "pool: 151 errors while"},
		{"failed logins", func(r *report) { r.Pools[0].Failed = 4 }, "pool: 4 failed logins"},
		{"no rotation", func(r *report) { r.Pools[0].Rotations = 0 }, "pool: no rotation"},
		{"an error of the bare driver", func(r *report) { r.Controls[0].Ours = 1 }, "bare: 1 errors that no fault explains"},
		{"goroutines", func(r *report) { r.End.Goroutines++ }, "11 goroutines"},
		{"files", func(r *report) { r.End.Files++ }, "11 file descriptors"},
		{"some more heap", func(r *report) { r.End.Heap += tolerance }, ""},
		{"heap", func(r *report) { r.End.Heap += tolerance + 1 }, "the heap has grown"},
	} {
		r := good()
		test.change(r)
		r.judge()
		var out strings.Builder
		r.print(&out)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		verdict := lines[len(lines)-1]
		if passed := strings.HasPrefix(verdict, "Passed: "); passed != (test.want == "") || !strings.Contains(verdict, test.want) {
			t.Errorf("%s: %q", test.name, verdict)
		}
	}
}
