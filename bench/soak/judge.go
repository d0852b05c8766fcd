package main

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	godriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/cache"
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
	// is over, on a machine that may be busy.
	grace = lifetime + 2*time.Second

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

// read says what symptom an error is. What Keyturn has said goes before all else that
// is in it.
func read(err error) symptom {
	if _, ok := errors.AsType[*retry.Error](err); ok {
		return refused
	}
	if _, ok := errors.AsType[*cache.Error](err); ok || errors.Is(err, cache.ErrClosed) || errors.Is(err, cache.ErrNotFound) {
		return unread
	}
	return readTree(err)
}

func readTree(err error) symptom {
	switch own := err.(type) { //nolint:errorlint // What wraps what is what tells.
	case *pgconn.PgError:
		return readPostgres(own.Code)
	case *godriver.MySQLError:
		return readMySQL(own.Number)
	case net.Error:
		if own.Timeout() {
			return late
		}
		return broken
	case interface{ Unwrap() []error }:
		return last(own.Unwrap())
	case interface{ Unwrap() error }:
		if inner := own.Unwrap(); inner != nil {
			return readTree(inner)
		}
	}
	if slices.Contains([]error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, driver.ErrBadConn, godriver.ErrInvalidConn}, err) {
		return broken
	}
	// What pgx says of a connection that it has closed, and go-sql-driver of one on which
	// it could write nothing, without a value that others could know it by.
	if text := err.Error(); text == "conn closed" || text == "bad connection" {
		return broken
	}
	return unexplained
}

// last returns the symptom of the last login, where there was more than one: a pgx pool
// gives the errors of all that were made inside one connect. Those before it were
// refused, and Keyturn has gone on to the next version.
func last(errs []error) symptom {
	all := make([]symptom, 0, len(errs))
	for _, err := range errs {
		if s := readTree(err); !strings.HasSuffix(err.Error(), "not tried again") {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return unexplained
	}
	return all[len(all)-1]
}

func readPostgres(code string) symptom {
	switch code {
	case "28P01", "28000":
		return refused
	case "57P01", "57P02", "57P03": // shut down, crashed, starting
		return stopped
	case "53300":
		return crowded
	}
	return unexplained
}

func readMySQL(number uint16) symptom {
	switch number {
	case 1045:
		return refused
	case 1053, 1927, 3169: // shutting down; what MariaDB and MySQL call a connection that was killed
		return stopped
	case 1040:
		return crowded
	case 1158, 1159, 1160, 1161: // what the server could not read or write
		return broken
	}
	return unexplained
}

// A verdict is what the judge says of an error.
type verdict struct {
	symptom symptom
	excuse  kind   // the fault that explains it; "": none does, and the error is ours
	faults  []kind // that were on
}

// judge judges the error of a query.
func (l *faultLog) judge(database string, err error, began, ended time.Time) verdict {
	v := verdict{symptom: read(err)}
	from := ended.Add(-memory)
	if from.Before(began) {
		from = began
	}
	var under time.Duration
	for _, f := range l.between(database, from, ended, grace) {
		v.faults = append(v.faults, f.kind)
		if v.excuse != "" || !slices.Contains(excuses[v.symptom], f.kind) {
			continue
		}
		if v.symptom != late {
			v.excuse = f.kind
			continue
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
			v.excuse = f.kind
		}
	}
	return v
}
