package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A plan is the day of a fleet.
type plan struct {
	processes int // simulated
	weight    int // processes of the fleet that each stands for: it gets that part of the quotas
	secrets   int // of each process, the same ones in all
	rare      int // of these, the last so many are read rarely
	enforce   bool

	day                  time.Duration
	launch               time.Duration // the first start of the processes is spread over this
	rotation, rotateFor  time.Duration // every secret, within
	outage, outageFor    time.Duration
	rolling, rollFor     time.Duration // a deploy that restarts one process after the other
	restart, restartFor  time.Duration // one that restarts all at once
	readPause, rarePause time.Duration // between two reads of a secret in a process, on average
}

// newPlan returns the day that docs/fleet.md describes.
func newPlan(processes, weight int) *plan {
	return &plan{
		processes: processes, weight: weight, secrets: 20, rare: 4, enforce: true,
		day: 24 * time.Hour, launch: time.Minute,
		rotation: 6 * time.Hour, rotateFor: time.Minute,
		outage: 10 * time.Hour, outageFor: 10 * time.Minute,
		rolling: 14 * time.Hour, rollFor: 10 * time.Minute,
		restart: 18 * time.Hour, restartFor: 10 * time.Second,
		readPause: 10 * time.Second, rarePause: 30 * time.Minute,
	}
}

// A phase of the day is told apart in the results.
type phase struct {
	name     string
	from, to time.Duration
}

// phases returns them. What an event does shows for an hour after it.
func (p *plan) phases() []phase {
	return []phase{
		{"start", 0, p.launch},
		{"after the start", p.launch, p.rotation},
		{"rotation", p.rotation, p.rotation + 2*p.rotateFor},
		{"outage", p.outage, p.outage + p.outageFor},
		{"after the outage", p.outage + p.outageFor, p.outage + p.outageFor + time.Hour},
		{"rolling deploy", p.rolling, p.rolling + p.rollFor},
		{"deploy of all at once", p.restart, p.restart + time.Minute},
		{"after that", p.restart + time.Minute, p.restart + 2*time.Hour},
		{"the last hour", p.day - time.Hour, p.day},
	}
}

// A run is what became of a fleet.
type run struct {
	variant variant
	plan    *plan
	service *service

	mu          sync.Mutex                 // protects following
	starts      map[string][]time.Duration // by what began them: how long until every secret was there
	startErrors int                        // reads that got no value, in a start
	errors      int                        // and later
	refused     int                        // logins, for an old password
}

// simulate runs the plan with all processes set up as the variant says, in a bubble:
// its clock stands still while anything runs, and jumps when everything sleeps. The
// cache reads time.Now and knows nothing of it.
func simulate(t *testing.T, v variant, p *plan) (*run, error) {
	t.Helper()
	var r *run
	var err error
	synctest.Test(t, func(*testing.T) {
		r = &run{variant: v, plan: p, service: newService(p), starts: make(map[string][]time.Duration)}
		err = r.spend()
	})
	return r, err
}

// spend lets the day pass.
func (r *run) spend() error {
	p := r.plan
	ctx, cancel := context.WithTimeout(context.Background(), p.day)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, p.processes)
	for n := range p.processes {
		part := func(d time.Duration) time.Duration { return d * time.Duration(n) / time.Duration(p.processes) }
		wg.Go(func() {
			lives := []struct {
				name     string
				from, to time.Duration
			}{
				{"start", rand.N(p.launch), p.rolling + part(p.rollFor)},
				{"rolling", p.rolling + part(p.rollFor), p.restart + rand.N(p.restartFor)},
				{"at once", 0, p.day},
			}
			lives[2].from = lives[1].to
			for _, l := range lives {
				time.Sleep(l.from - time.Since(r.service.start))
				life, end := context.WithTimeout(ctx, l.to-time.Since(r.service.start))
				if err := r.live(life, l.name); err != nil {
					errs <- err
				}
				end()
			}
		})
	}
	wg.Go(func() {
		time.Sleep(p.rotation)
		for secret := range p.secrets {
			r.service.rotate(secret)
			time.Sleep(p.rotateFor / time.Duration(p.secrets))
		}
	})
	wg.Wait()
	close(errs)
	return <-errs
}

// live is one process, from its start until ctx ends.
func (r *run) live(ctx context.Context, started string) error {
	began := time.Now()
	c := newClient(r.service)
	h, err := r.variant.open(ctx, r.variant, c)
	if err != nil {
		return err
	}
	defer h.close()
	r.readAll(ctx, h, c, started, began)
	return nil
}

// count adds one to a number of the run's.
func (r *run) count(n *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n++
}
