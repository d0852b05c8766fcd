package mysql_test

import (
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/loadtest"
)

// A tracer sees each login of the driver.
type tracer struct{ loadtest.Tracer }

// begin takes note of a login, and returns what takes its outcome.
func (t *tracer) begin() func(error) {
	t.Begin()
	return func(err error) {
		switch {
		case mysql.LockedOut(err):
			t.End(loadtest.LockedOut)
		case mysql.Refused(err):
			t.End(loadtest.Refused)
		default:
			t.End(loadtest.Other)
		}
	}
}
