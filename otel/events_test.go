package otel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/otel"
	"github.com/keyturn/keyturn/retry"
)

var (
	errRefused = errors.New("password " + sentinel + " is wrong")
	errLocked  = errors.New("account of " + sentinel + " is locked")
)

// Every kind of event, with and without names: a login with the old password, one
// after a rotation, and one that the target answers with a lock.
func TestEvents(t *testing.T) {
	for _, test := range []struct {
		name  string
		opts  func(*otel.Options)
		names string // before the others
	}{
		{"by default", func(*otel.Options) {}, ""},
		{"secrets", func(o *otel.Options) { o.SecretIDs = true }, "keyturn.secret.id=prod/db "},
		{"targets", func(o *otel.Options) { o.Targets = true }, "keyturn.retry.target=db:5432 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tel := newTelemetry()
				srv, sdk := service(t)
				c := newCache(t, sdk, nil)
				accepted := sentinel
				r := retry.New(c, "prod/db", isRefusal, &retry.Options{
					Target:    "db:5432",
					LockedOut: func(err error) bool { return errors.Is(err, errLocked) },
					Code: func(err error) string {
						if errors.Is(err, errLocked) {
							return err.Error() // no code
						}
						return "28P01"
					},
					OnEvent: otel.Events(tel.with(test.opts)),
				})
				login := func(_ context.Context, s *cache.Secret) error {
					switch s.Text() {
					case accepted:
						return nil
					case "locked":
						return errLocked
					}
					return errRefused
				}
				_ = r.Do(t.Context(), login)
				_, _ = srv.Rotate(t.Context(), "prod/db", "new")
				accepted = "new"
				_ = r.Do(t.Context(), login)
				r.Report(retry.Retired, "v1", "", nil)
				_, _ = srv.Rotate(t.Context(), "prod/db", "locked")
				if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
					t.Fatal(err)
				}
				_ = r.Do(t.Context(), login)
				synctest.Wait()
				same(t, tel.series(t), events(test.names))
			})
		})
	}
}

// events returns the series of the test, with the attributes for names where they
// belong in order.
func events(names string) []string {
	var lines []string
	for _, s := range [][2]string{
		{"keyturn.retry.event=tried", "keyturn.secret.stage=AWSCURRENT} 4"},
		{"keyturn.retry.event=proven", "keyturn.secret.stage=AWSCURRENT} 2"},
		{"error.type=28P01 keyturn.retry.event=refused", "keyturn.secret.stage=AWSCURRENT} 1"},
		{"error.type=28P01 keyturn.retry.event=quarantined", "keyturn.secret.stage=AWSCURRENT} 1"},
		{"error.type=_OTHER keyturn.retry.event=refused", "keyturn.secret.stage=AWSCURRENT} 1"},
		{"error.type=_OTHER keyturn.retry.event=locked_out", "keyturn.secret.stage=AWSCURRENT} 1"},
		{"keyturn.retry.event=retired", "} 1"},
	} {
		line := "keyturn.retry.events counter {event} {" + s[0] + " " + names + s[1]
		lines = append(lines, strings.ReplaceAll(line, " }", "}"))
	}
	return lines
}

func isRefusal(err error) bool { return errors.Is(err, errRefused) || errors.Is(err, errLocked) }
