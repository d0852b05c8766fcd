package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	godriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/retry"
)

// A symptom is what an error says of where it comes from.
type symptom string

const (
	refused     symptom = "a login was refused"
	unread      symptom = "the secret could not be read"
	broken      symptom = "the connection broke"
	stopped     symptom = "the server stops or starts"
	crowded     symptom = "the server has no connection left"
	late        symptom = "it took too long"
	unexplained symptom = "none of the known"
)

const (
	// grace is for how long after a fault an error may come of it: a connection that
	// was broken in the pool is found to be when it is next used, until its lifetime
	// is over.
	grace = lifetime + time.Second

	// memory is for how long before an error the fault may have been: a login takes ten
	// seconds at most. The rest of what the caller has waited for was something else,
	// and what happened then is no excuse.
	memory = 10 * time.Second
)

// excuses says which faults the bare driver would have had each symptom from. There is
// none for a refused login and for a secret that was not read: no fault of the service,
// of a rotation or of who edits a secret excuses anything.
var excuses = map[symptom][]kind{
	broken:  {netReset, netRefuse, netHole, dbRestart},
	stopped: {dbRestart},
	crowded: {dbCrowded},
	late:    {netHole, netRefuse, netReset, netSlow, dbRestart, dbCrowded},
}

// read says what symptom an error is. Everything that Keyturn can have said goes
// first: its errors wrap the driver's.
func read(err error) symptom {
	if _, ok := errors.AsType[*retry.Error](err); ok || dbconn.IsRefused(err) {
		return refused
	}
	if _, ok := errors.AsType[*cache.Error](err); ok || errors.Is(err, cache.ErrClosed) || errors.Is(err, cache.ErrNotFound) {
		return unread
	}
	if own, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch own.Code {
		case "57P01", "57P02", "57P03": // shut down, crashed, starting
			return stopped
		case "53300":
			return crowded
		}
		return unexplained
	}
	if own, ok := errors.AsType[*godriver.MySQLError](err); ok {
		switch own.Number {
		case 1053, 1927, 3169: // shutting down; MariaDB's and MySQL's word for a killed connection
			return stopped
		case 1040:
			return crowded
		case 1158, 1159, 1160, 1161: // what the server could not read or write
			return broken
		}
		return unexplained
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return late
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return late
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return broken
	}
	if slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, driver.ErrBadConn, godriver.ErrInvalidConn,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE,
	}, func(target error) bool { return errors.Is(err, target) }) {
		return broken
	}
	// pgx has no value for it.
	if strings.HasSuffix(err.Error(), "conn closed") {
		return broken
	}
	return unexplained
}

// judge says what a caller's error is: the symptom, and the fault that explains it. If
// none does the error is ours.
func (l *faultLog) judge(database string, err error, began, ended time.Time) (s symptom, excuse kind, excused bool) {
	s = read(err)
	from := ended.Add(-memory)
	if from.Before(began) {
		from = began
	}
	var under time.Duration
	for _, f := range l.between(database, from, ended, grace) {
		if !slices.Contains(excuses[s], f.kind) {
			continue
		}
		if s != late {
			return s, f.kind, true
		}
		// Whoever has run out of time must have lost the half of it to faults at least.
		begin, end := f.begin, f.end
		if begin.Before(from) {
			begin = from
		}
		if end.IsZero() || end.After(ended) {
			end = ended
		}
		under += max(0, end.Sub(begin))
		if 2*under >= ended.Sub(from) {
			return s, f.kind, true
		}
	}
	return s, "", false
}
