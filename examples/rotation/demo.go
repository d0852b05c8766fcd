package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/smtest"
)

// serviceLatency is how long Secrets Manager takes to answer. In process it
// would be no time at all, which is not what a program in AWS sees.
const serviceLatency = 10 * time.Millisecond

// A demo is everything that runs.
type demo struct {
	settings

	pg    *pgserver.Server
	sm    *smtest.Server
	pools []*pool // the plain one, Keyturn's

	rotation atomic.Int64 // the number of the latest rotation
	rotated  atomic.Int64 // how many are complete

	began, ended time.Time // of the load
}

// start starts the servers and makes the pools, which open no connection yet.
func start(ctx context.Context, s settings) (_ *demo, err error) {
	d := &demo{settings: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.pg, err = pgserver.Start(ctx, &pgserver.Options{MaxConnections: 2*s.workers + 20}); err != nil {
		return nil, err
	}
	d.sm = smtest.New(nil)
	d.sm.Inject(smtest.Fault{Delay: serviceLatency})

	plain, err := d.add(ctx, "plain", "plain")
	if err != nil {
		return nil, err
	}
	dsn := fmt.Sprintf("host=%s port=%d user=plain dbname=plain sslmode=disable connect_timeout=10", d.pg.Host(), d.pg.Port())
	passwords := &ttlCache{client: plain.api, secretID: plain.secretID, ttl: s.plainTTL}
	connector, err := openPlain(dsn, passwords, plain.logins.watch)
	if err != nil {
		return nil, err
	}
	plain.open(connector, s.workers)

	keyturn, err := d.add(ctx, "Keyturn", "keyturn")
	if err != nil {
		return nil, err
	}
	connector, cache, err := openKeyturn(keyturn.api, keyturn.secretID, keyturn.logins.watch)
	if err != nil {
		return nil, err
	}
	keyturn.open(connector, s.workers)
	keyturn.cache = cache
	return d, nil
}

// add makes a database user, its secret, and what is needed to rotate it and to
// count. Each pool has its own: so nobody's numbers mix.
func (d *demo) add(ctx context.Context, name, user string) (*pool, error) {
	password := rand.Text()
	if err := d.pg.CreateUser(ctx, user, password); err != nil {
		return nil, err
	}
	secret, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": d.pg.Host(), "port": d.pg.Port(),
		"username": user, "password": password, "dbname": user,
	})
	if err != nil {
		return nil, err
	}
	p := &pool{
		name:     name,
		user:     user,
		secretID: "demo/" + user,
		api:      &countedAPI{API: d.sm.Client()},
		logins:   &logins{},
		function: newFunction(d.sm, user, d.window),
	}
	d.sm.Put(p.secretID, string(secret))
	d.pools = append(d.pools, p)
	return p, nil
}

// play runs the load and the rotations, and says how it was.
func (d *demo) play(ctx context.Context, show *display) (report, error) {
	var work, watch sync.WaitGroup
	stop, ended := make(chan struct{}), make(chan struct{})
	d.began = time.Now()
	for _, p := range d.pools {
		for range d.workers {
			work.Go(func() { p.work(ctx, stop) })
		}
	}
	watch.Go(func() { show.run(d, ended) })

	err := d.wait(ctx)
	// The workers end between two queries, not in one: what they count is what
	// a user of the program would have seen.
	close(stop)
	work.Wait()
	d.ended = time.Now()
	close(ended)
	watch.Wait()
	if err != nil {
		return report{}, err
	}
	return d.report()
}

// wait rotates, and waits for the end of -duration.
func (d *demo) wait(ctx context.Context) error {
	if d.duration == 0 {
		return d.rotate(ctx)
	}
	timed, cancel := context.WithTimeout(ctx, d.duration)
	defer cancel()
	if err := d.rotate(timed); err != nil && timed.Err() == nil {
		return err
	}
	<-timed.Done()
	return ctx.Err()
}

// close ends everything: first the pools, then the cache they read, then the
// servers.
func (d *demo) close() error {
	var errs []error
	for _, p := range d.pools {
		errs = append(errs, p.close())
	}
	if d.sm != nil {
		d.sm.Close()
	}
	if d.pg != nil {
		errs = append(errs, d.pg.Stop())
	}
	return errors.Join(errs...)
}
