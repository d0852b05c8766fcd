package smtest_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

func wantBill(t *testing.T, b smtest.Bill, month string, secretMonths float64, calls int, total float64) {
	t.Helper()
	if !b.Month.Equal(utc(t, month)) || math.Abs(b.SecretMonths-secretMonths) > 1e-9 || b.Calls != calls || math.Abs(b.Total()-total) > 1e-9 {
		t.Errorf("bill = %+v, total %v; want %s, %v secret-months, %d calls, total %v", b, b.Total(), month, secretMonths, calls, total)
	}
	if math.Abs(b.SecretsUSD-0.40*b.SecretMonths) > 1e-9 || math.Abs(b.CallsUSD-float64(b.Calls)*0.05/10000) > 1e-9 {
		t.Errorf("bill = %+v: prices", b)
	}
}

func TestBill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		wantBill(t, srv.Bill(time.Now()), "2000-01-01", 0, 0, 0)
		srv.Put("a", "one")
		srv.Put("b", "one")
		sleepUntil(t, srv, "2000-02-01")
		for range 20 {
			wantValue(t, c, "a", "one")
		}
		_, _ = read(t.Context(), c, "none") // It is a call too.
		wantBill(t, srv.Bill(utc(t, "2000-01-15")), "2000-01-01", 2, 0, 0.80)
		wantBill(t, srv.Bill(time.Now()), "2000-02-01", 0, 21, 21*0.05/10000)

		// A day of February, which has 29.
		sleepUntil(t, srv, "2000-02-02")
		wantBill(t, srv.Bill(time.Now()), "2000-02-01", 2.0/29, 21, 2.0/29*0.40+21*0.05/10000)
		wantBill(t, srv.Bill(utc(t, "1999-12-31")), "1999-12-01", 0, 0, 0)

		// A batch is one call, a request for no operation none.
		if _, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"a", "b"}}); err != nil {
			t.Fatal(err)
		}
		raw(srv, "Nonsense", "{}")
		if got := srv.Bill(time.Now()).Calls; got != 22 {
			t.Errorf("%d calls, want 22", got)
		}
		sleepUntil(t, srv, "2001-02-01")
		sum := 0.0
		for m := range 13 {
			sum += srv.Bill(utc(t, "2000-01-01").AddDate(0, m, 0)).SecretMonths
		}
		if math.Abs(sum-26) > 1e-9 {
			t.Errorf("%v secret-months in 13 months, want 26", sum)
		}
	})
}

// A secret costs from its creation to its deletion, and a replica as much.
func TestBillOfSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		day := func(n int) { t.Helper(); time.Sleep(time.Duration(n) * 24 * time.Hour) }
		used := 0.0 // in days of January
		check := func(what string) {
			t.Helper()
			if got := srv.Bill(utc(t, "2000-01-01")).SecretMonths * 31; math.Abs(got-used) > 1e-9 {
				t.Errorf("%s: %v secret-days, want %v", what, got, used)
			}
		}
		day(2)
		used += 2
		check("one secret")
		if _, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{
			SecretId: aws.String("s"), AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}},
		}); err != nil {
			t.Fatal(err)
		}
		day(1)
		used += 2
		check("a replica")
		if _, err := c.RemoveRegionsFromReplication(t.Context(), &sm.RemoveRegionsFromReplicationInput{
			SecretId: aws.String("s"), RemoveReplicaRegions: []string{"eu-west-1"},
		}); err != nil {
			t.Fatal(err)
		}
		day(1)
		used++
		check("the replica removed")
		del := func(force bool) {
			t.Helper()
			in := &sm.DeleteSecretInput{SecretId: aws.String("s"), RecoveryWindowInDays: aws.Int64(7)}
			if force {
				in.RecoveryWindowInDays, in.ForceDeleteWithoutRecovery = nil, aws.Bool(true)
			}
			if _, err := c.DeleteSecret(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		del(false)
		day(3)
		check("marked for deletion")
		if _, err := c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err) // Nothing is deleted, and nothing changes.
		}
		day(1)
		used++
		check("restored")
		del(false)
		day(8)
		_, _ = read(t.Context(), c, "s")
		check("gone after its recovery window")
		create(t, c, "s", "b", "one")
		day(1)
		used++
		del(true)
		day(1)
		check("deleted by force")
		create(t, c, "s", "c", "one")
		del(false)
		del(true)
		day(1)
		check("marked, then deleted by force")
	})
}
