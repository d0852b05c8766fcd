package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// privateTemp gives the test a folder for temporary files that the servers' user can
// reach, and fails it if something is left there.
func privateTemp(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyturn-soak-test-") //nolint:usetesting // t.TempDir is closed to other users
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
		_ = os.RemoveAll(dir)
	})
}

// The whole program, for some seconds.
func TestSoak(t *testing.T) {
	privateTemp(t)
	var out, progress bytes.Buffer
	status := run(t.Context(), []string{"-for=4s", "-seed=7", "-json"}, &out, &progress)
	t.Logf("%s%s", progress.String(), out.String())
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if status != exitOK || len(r.Faulty) > 0 {
		t.Errorf("status %d, %q", status, r.Faulty)
	}
	if len(r.Pools) != 8 || len(r.Controls) != 4 || len(r.Databases) != 3 || r.Seed != 7 {
		t.Errorf("%d pools, %d controls, of %q, with seed %d", len(r.Pools), len(r.Controls), r.Databases, r.Seed)
	}
	rotations := 0
	for _, p := range r.Pools {
		rotations += p.Rotations
		if p.Queries == 0 || p.Logins == 0 {
			t.Errorf("%s, %s: %+v", p.Database, p.Name, *p)
		}
	}
	if rotations == 0 {
		t.Error("no rotation")
	}
	if r.Start.Goroutines == 0 || r.Start.Heap == 0 || len(r.Faults) == 0 {
		t.Errorf("at the start %+v, faults %v", r.Start, r.Faults)
	}
}

// broke is a client whose queries end with the error.
type broke struct{ err error }

func (c broke) query(context.Context) error    { return c.err }
func (c broke) transact(context.Context) error { return c.err }
func (c broke) close()                         {}

// What nothing explains is counted as ours, and listed; what something does is not.
func TestLoadCounts(t *testing.T) {
	var faults faultLog
	l := &load{faults: &faults}
	p := &pool{client: broke{reset()}, database: &database{name: "db"}}
	l.query(p)
	end := faults.begin("db", netReset)
	l.query(p)
	p.client = broke{errors.New("a bug")}
	l.query(p)
	end()
	p.client = broke{nil}
	l.query(p)
	if c := &p.tally; c.queries.Load() != 4 || c.good.Load() != 1 || c.ours.Load() != 2 || c.excused.Load() != 1 || c.excuses[netReset] != 1 {
		t.Errorf("%d queries, %d good, %d errors of ours, %d excused, %v",
			c.queries.Load(), c.good.Load(), c.ours.Load(), c.excused.Load(), c.excuses)
	}
	if news := p.tally.news(); len(news) != 2 || !strings.Contains(news[1], "a bug") || !strings.Contains(news[1], string(netReset)) {
		t.Errorf("the findings are %q", news)
	}
	if news := p.tally.news(); len(news) != 0 {
		t.Errorf("told twice: %q", news)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-for=0s"}, {"-for=-1s"}, {"-seed=x"}, {"5m"}, {"-nothing"}} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), args, &out, &errs); status != exitUsage || errs.Len() == 0 || out.Len() > 0 {
			t.Errorf("%q: status %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

// The same seed has the same faults in the same order; another one has others.
func TestStream(t *testing.T) {
	order := func(seed, n uint64) (kinds []string) {
		r := stream(seed, n)
		for range 50 {
			kinds = append(kinds, string(choose(r, damages).kind)+span(r, shortest, longest).String())
		}
		return kinds
	}
	if !slices.Equal(order(1, 1), order(1, 1)) {
		t.Error("the order is not the seed's")
	}
	if slices.Equal(order(1, 1), order(2, 1)) || slices.Equal(order(1, 1), order(1, 2)) {
		t.Error("two streams are the same")
	}
	for _, k := range []kind{netReset, netRefuse, netHole, netSlow, dbRestart, dbCrowded} {
		if !slices.ContainsFunc(order(1, 1), func(s string) bool { return len(s) > len(k) && s[:len(k)] == string(k) }) {
			t.Errorf("no %q among fifty faults", k)
		}
	}
}
