package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// A reader reads one secret of one process, each time to log in with it. The times
// between its reads are exponential, as those of a program are that many unrelated
// things make open connections. So what it has read matters to nobody while a read
// makes no call and a login is not refused, and it may sleep through that: the next
// read after any moment is as far away as after any other.
type reader struct {
	run    *run
	holder holder
	secret int
	pause  time.Duration
	timer  *time.Timer
}

// readAll has every secret read until ctx ends, and notes when the first of each
// was there.
func (r *run) readAll(ctx context.Context, h holder, c *client, started string, began time.Time) {
	var all, first sync.WaitGroup
	for secret := range r.plan.secrets {
		rd := &reader{run: r, holder: h, secret: secret, pause: r.plan.readPause, timer: time.NewTimer(0)}
		if secret >= r.plan.secrets-r.plan.rare {
			rd.pause = r.plan.rarePause
		}
		first.Add(1)
		all.Go(func() {
			rd.begin(ctx)
			first.Done()
			rd.goOn(ctx, c)
		})
	}
	first.Wait()
	if ctx.Err() == nil {
		r.mu.Lock()
		r.starts[started] = append(r.starts[started], time.Since(began))
		r.mu.Unlock()
	}
	all.Wait()
}

// begin reads the secret until it is there: a program does not start without.
func (rd *reader) begin(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := rd.holder.get(ctx, rd.secret); err == nil {
			return
		}
		rd.run.count(&rd.run.startErrors)
		rd.sleep(ctx, nil, rand.N(2*time.Second))
	}
}

func (rd *reader) goOn(ctx context.Context, c *client) {
	defer rd.timer.Stop()
	rotated := rd.run.service.rotated[rd.secret]
	for ctx.Err() == nil {
		if age, ok := c.age(rd.secret); ok {
			v := rd.run.variant
			rest := time.Duration(v.quiet*float64(v.ttl)) - age
			if rd.sleep(ctx, rotated, rest) {
				rotated = nil
			}
		}
		rd.sleep(ctx, nil, time.Duration(rand.ExpFloat64()*float64(rd.pause)))
		if ctx.Err() != nil {
			return
		}
		rd.login(ctx)
	}
}

// login reads the secret and tries it on the database, which takes the current
// version alone.
func (rd *reader) login(ctx context.Context) {
	version, err := rd.holder.get(ctx, rd.secret)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		rd.run.count(&rd.run.errors)
	case version != rd.run.service.version(rd.secret):
		rd.run.count(&rd.run.refused)
		rd.holder.refused(ctx, rd.secret, version)
	}
}

// sleep waits for d, and reports whether wake was closed before.
func (rd *reader) sleep(ctx context.Context, wake <-chan struct{}, d time.Duration) (woken bool) {
	if d <= 0 {
		return false
	}
	rd.timer.Reset(d)
	select {
	case <-rd.timer.C:
	case <-ctx.Done():
	case <-wake:
		return true
	}
	return false
}
