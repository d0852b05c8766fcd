package retry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// Every counter is in the snapshot, under its name.
func TestSnapshotHasEveryCount(t *testing.T) {
	var stats retry.Stats
	counters := reflect.ValueOf(&stats).Elem()
	for i := range counters.NumField() {
		counters.Field(i).Addr().Interface().(*atomic.Uint64).Store(uint64(i + 1))
	}
	counts := reflect.ValueOf(stats.Snapshot())
	if counts.NumField() != counters.NumField() {
		t.Errorf("%d counts of %d counters", counts.NumField(), counters.NumField())
	}
	for i := range counters.NumField() {
		name := counters.Type().Field(i).Name
		if count := counts.FieldByName(name); !count.IsValid() || count.Uint() != uint64(i+1) {
			t.Errorf("Snapshot().%s = %v, want %d", name, count, i+1)
		}
	}
}

// While logins come and go, no snapshot says that more have ended than begun.
func TestSnapshotFitsTogether(t *testing.T) {
	c, err := cache.New(cache.Static(map[string]string{"prod/db": "v1"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var stats retry.Stats
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			// A Retrier each: the first login with a version proves it.
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := retry.New(c, "prod/db", isRefused, &retry.Options{Stats: &stats})
				_ = r.Do(t.Context(), func(context.Context, *cache.Secret) error {
					return [...]error{nil, errRefused, errNetwork}[n%3]
				})
			}
		})
	}
	for stats.Logins.Load() < 5_000 {
		n := stats.Snapshot()
		if ended := n.Accepted + n.Refused + n.NoVerdict; n.Logins < ended {
			t.Errorf("%d logins begun and %d ended", n.Logins, ended)
			break
		}
		if n.Proven > n.Accepted || n.Quarantined > n.Refused {
			t.Errorf("%d proven of %d accepted, %d quarantined of %d refused", n.Proven, n.Accepted, n.Quarantined, n.Refused)
			break
		}
	}
	close(stop)
	wg.Wait()
	n := stats.Snapshot()
	if n.Logins != n.Accepted+n.Refused+n.NoVerdict || n.Proven == 0 || n.Quarantined == 0 || n.NoVerdict == 0 {
		t.Errorf("at the end: %+v", n)
	}
}

// What is counted, in a form that encoding/json, a log or a test can use.
func ExampleStats_Snapshot() {
	c, err := cache.New(cache.Static(map[string]string{"prod/db": "secret"}), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	var stats retry.Stats
	r := retry.New(c, "prod/db", isRefused, &retry.Options{Stats: &stats})
	for range 3 {
		_ = r.Do(context.Background(), func(context.Context, *cache.Secret) error { return nil })
	}
	text, _ := json.Marshal(stats.Snapshot())
	fmt.Println(string(text))
	// Output: {"Logins":3,"Accepted":3,"Refused":0,"NoVerdict":0,"Proven":1,"Quarantined":0,"LockedOut":0,"Retired":0,"Waits":0,"Polls":0}
}
