package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

const (
	// latency is how long Secrets Manager takes to answer. In process it would be no
	// time at all, which is not what a program in AWS sees.
	latency = 5 * time.Millisecond

	// warmUp is how long the load runs at least, before the first look at what the
	// program takes.
	warmUp = 2 * time.Second

	// aftermath is how long pools may take after the last fault to make some queries.
	aftermath = 2 * time.Minute

	every = 10 * time.Second // is told how it goes
)

// Settings are what the flags say.
type settings struct {
	length time.Duration
	seed   uint64
}

// A soak is everything that runs.
type soak struct {
	settings

	out       io.Writer
	started   time.Time
	databases []*database
	sm        *smtest.Server
	secrets   []*secret
	pools     []*pool // the controls too
	faults    faultLog
}

// start starts the servers and makes the pools, which open no connection yet.
func start(ctx context.Context, s settings, out io.Writer) (_ *soak, err error) {
	so := &soak{settings: s, out: out, started: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, so.close())
		}
	}()
	if so.databases, err = startDatabases(ctx); err != nil {
		return nil, err
	}
	// Rotations that fail are repeated by this program, in seconds and not in minutes.
	so.sm = smtest.New(&smtest.Options{Seed: s.seed, Rotation: smtest.RotationOptions{Retries: -1}})
	so.sm.Inject(smtest.Fault{Delay: latency})
	for _, db := range so.databases {
		if err := so.populate(ctx, db); err != nil {
			return nil, fmt.Errorf("%s: %w", db.name, err)
		}
	}
	return so, nil
}

// populate makes the pools of a database, their users and their secrets. Each pool has
// its own, and so nobody's numbers mix.
func (s *soak) populate(ctx context.Context, db *database) error {
	name, password, err := db.superuser(ctx)
	if err != nil {
		return err
	}
	superuser := "soak/" + db.name + "/superuser"
	dbname := ""
	ways := []connections{viaSQL}
	if db.name == "PostgreSQL" {
		ways, dbname = append(ways, viaPgx), "postgres"
	}
	s.sm.Put(superuser, db.document(name, password, dbname))
	for i, via := range ways {
		control := &pool{name: string(via) + ", bare driver", database: db}
		if err := control.openControl(ctx, via); err != nil {
			return err
		}
		for _, alternating := range []bool{false, true} {
			p := &pool{name: string(via) + ", single user", database: db, control: control}
			user := fmt.Sprintf("single%d", i)
			if alternating {
				p.name, user = string(via)+", alternating users", fmt.Sprintf("alternating%d", i)
			}
			if alternating == (i == 0) { // so that either kind has either
				p.ttl = shortTTL
			}
			password := rand.Text()
			if err := db.CreateUser(ctx, user, password); err != nil {
				return err
			}
			p.rotated = newSecret(s.sm, &s.faults, db, user, alternating, superuser)
			s.sm.Put(p.rotated.id, db.document(user, password, user))
			if err := p.open(ctx, via, s.sm.Client()); err != nil {
				return err
			}
			s.secrets, s.pools = append(s.secrets, p.rotated), append(s.pools, p)
		}
		s.pools = append(s.pools, control)
	}
	return nil
}

// close ends everything: first the pools, then the caches they read, then the servers.
func (s *soak) close() error {
	var errs []error
	for _, p := range s.pools {
		p.close()
	}
	if s.sm != nil {
		s.sm.Close()
	}
	for _, db := range s.databases {
		errs = append(errs, db.stop())
	}
	return errors.Join(errs...)
}

// play runs the load with all that happens to it, for as long as the settings say or
// until ctx ends, and says how it was.
func (s *soak) play(ctx context.Context) (*report, error) {
	// What follows the faults is not cut short: it is what they are for.
	whole := context.WithoutCancel(ctx)
	s.say("the servers are up; warming up")
	if err := s.warm(whole); err != nil {
		return nil, err
	}
	r := s.newReport()
	r.Start = atRest(nil)

	s.say("the faults begin")
	s.started = time.Now()
	load := startLoad(s.pools, &s.faults, s.started)
	err := s.storm(ctx)
	r.Took = time.Since(s.started)
	s.say("the faults are over")
	idle := s.recover(whole)
	load.end()
	s.say("at rest")
	if err != nil {
		r.blame("%v", err)
	}
	// What Secrets Manager remembers is its own, and no leak.
	for _, secret := range s.secrets {
		_, err := s.sm.Client().DeleteSecret(whole, &secretsmanager.DeleteSecretInput{
			SecretId: &secret.id, ForceDeleteWithoutRecovery: aws.Bool(true),
		})
		if err != nil {
			return nil, err
		}
	}
	s.sm.ResetCalls()
	r.End = atRest(&r.Start)
	return r, r.fill(s, idle)
}

// warm has every pool and every function do once what they will do.
func (s *soak) warm(ctx context.Context) error {
	load := startLoad(s.pools, &s.faults, s.started)
	defer load.end()
	errs := make([]error, len(s.secrets)+1)
	var rotations sync.WaitGroup
	for i, secret := range s.secrets {
		rotations.Go(func() {
			errs[i] = secret.rotate(ctx, time.Second)
			secret.rotated, secret.failed = 0, 0 // what comes later is what counts
		})
	}
	rotations.Go(func() { errs[len(s.secrets)] = sleep(ctx, warmUp) })
	rotations.Wait()
	return errors.Join(errs...)
}

// storm is the time of the faults.
func (s *soak) storm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	var actors sync.WaitGroup
	var mu sync.Mutex // protects following
	var errs []error
	act := func(do func() error) {
		actors.Go(func() {
			if err := do(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
				cancel() // there is nothing to be learned from what follows
			}
		})
	}
	act(func() error { return s.trouble(ctx, stream(s.seed, serviceStream)) })
	for i, db := range s.databases {
		act(func() error { return s.harm(ctx, db, stream(s.seed, databaseStream+uint64(i))) })
	}
	for i, secret := range s.secrets {
		act(func() error { return secret.live(ctx, stream(s.seed, secretStream+uint64(i))) })
	}
	act(func() error { s.tell(ctx); return nil })
	actors.Wait()
	return errors.Join(errs...)
}

// recover waits until each pool has made some queries after the last fault. It returns
// those that have not.
func (s *soak) recover(ctx context.Context) (idle []*pool) {
	ctx, cancel := context.WithTimeout(ctx, aftermath)
	defer cancel()
	until := make([]int64, len(s.pools))
	for i, p := range s.pools {
		until[i] = p.tally.good.Load() + 5*size
	}
	for i, p := range s.pools {
		err := eventually(ctx, func() error {
			if p.tally.good.Load() < until[i] {
				return errors.New("no progress")
			}
			return nil
		})
		if err != nil {
			idle = append(idle, p)
		}
	}
	return idle
}

// tell tells how it goes, until ctx ends.
func (s *soak) tell(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.line()
		case <-ctx.Done():
			return
		}
	}
}

// say tells what comes now.
func (s *soak) say(what string) {
	_, _ = fmt.Fprintf(s.out, "%6.0fs  %s\n", time.Since(s.started).Seconds(), what)
}

// line tells how it goes, and which errors there were since the last line.
func (s *soak) line() {
	for _, p := range s.pools {
		for _, finding := range p.tally.news() {
			_, _ = fmt.Fprintf(s.out, "- %s, %s: %s\n", p.database.name, p.name, finding)
		}
	}
	var queries, ours, excused, control int64
	for _, p := range s.pools {
		if p.control == nil {
			control += p.tally.excused.Load() + p.tally.ours.Load()
			continue
		}
		queries += p.tally.queries.Load()
		ours += p.tally.ours.Load()
		excused += p.tally.excused.Load()
	}
	rotations, faults := 0, 0
	for _, secret := range s.secrets {
		secret.mu.Lock()
		rotations += secret.rotated
		secret.mu.Unlock()
	}
	for _, n := range s.faults.count() {
		faults += n
	}
	now := look()
	_, _ = fmt.Fprintf(s.out, "%6.0fs  %d queries, %d errors of ours, %d of the faults (bare driver: %d), %d rotations, %d faults; %d goroutines, %d files, heap %s\n",
		time.Since(s.started).Seconds(), queries, ours, excused, control, rotations, faults, now.Goroutines, now.Files, mebibytes(now.Heap))
}
