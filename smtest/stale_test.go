package smtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// seen is what a read of a label or version gives: the value or the error's code.
func seen(t *testing.T, c *sm.Client, id, version, stage string) string {
	t.Helper()
	in := &sm.GetSecretValueInput{SecretId: aws.String(id)}
	if version != "" {
		in.VersionId = aws.String(ver(version))
	}
	if stage != "" {
		in.VersionStage = aws.String(stage)
	}
	out, err := c.GetSecretValue(t.Context(), in)
	if err != nil {
		code, _, _ := strings.Cut(apiError(err), ":")
		return code
	}
	return *out.SecretString
}

const gone = "ResourceNotFoundException"

func TestStaleReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.Inject(smtest.Fault{SecretID: "s", Stale: 5 * time.Second})
		check := func(at string, want ...string) {
			t.Helper()
			got := []string{seen(t, c, "s", "", ""), seen(t, c, "s", "", pend), seen(t, c, "s", "b", ""), seen(t, c, "s", "", prev)}
			if !slices.Equal(got, want) {
				t.Errorf("%s: current, pending, version b, previous = %v, want %v", at, got, want)
			}
		}
		check("at first", "one", gone, gone, gone) // It is older than the fault.
		if err := put(t.Context(), c, "s", "b", "two", pend); err != nil {
			t.Fatal(err)
		}
		check("just put", "one", gone, gone, gone)
		time.Sleep(3 * time.Second)
		if err := move(t.Context(), c, "s", cur, "a", "b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Second - time.Millisecond)
		check("almost 5 s after the put", "one", gone, gone, gone)
		time.Sleep(time.Millisecond)
		check("5 s after the put", "one", "two", "two", gone)
		time.Sleep(3*time.Second - time.Millisecond)
		check("almost 5 s after the move", "one", "two", "two", gone)
		time.Sleep(time.Millisecond)
		check("5 s after the move", "two", "two", "two", "one")
		if err := put(t.Context(), c, "s", "c", "three"); err != nil {
			t.Fatal(err)
		}
		check("the next put", "two", "two", "two", "one")
		time.Sleep(time.Minute)
		check("long after", "three", gone, "two", "two")
	})
}

// The other reads are as stale as GetSecretValue.
func TestStaleDescriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.Inject(smtest.Fault{Stale: time.Minute})
		time.Sleep(time.Second)
		if err := put(t.Context(), c, "s", "b", "two"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("s"), Description: aws.String("new")}); err != nil {
			t.Fatal(err)
		}
		create(t, c, "late", "a", "one")
		srv.Put("later", "one")
		read := func() []string {
			t.Helper()
			d := describe(t, c, "s")
			list, err := c.ListSecrets(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range list.SecretList {
				names = append(names, fmt.Sprint(*s.Name, len(s.SecretVersionsToStages)))
			}
			found, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{
				Filters: []types.Filter{{Key: types.FilterNameStringTypeDescription, Values: []string{"new"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			batch, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"s", "late"}})
			if err != nil {
				t.Fatal(err)
			}
			return []string{
				fmt.Sprint(len(d.VersionIdsToStages), aws.ToString(d.Description)), versions(t, c, "s"), strings.Join(names, " "),
				fmt.Sprint(len(found.SecretList)), fmt.Sprint(*batch.SecretValues[0].SecretString, len(batch.Errors)),
			}
		}
		if got, want := read(), []string{"1", "a:AWSCURRENT", "s1", "0", "one1"}; !slices.Equal(got, want) {
			t.Errorf("stale reads\n got %q\nwant %q", got, want)
		}
		time.Sleep(time.Minute)
		if got, want := read(), []string{"2new", "a:AWSPREVIOUS b:AWSCURRENT", "s2 late1 later1", "1", "two0"}; !slices.Equal(got, want) {
			t.Errorf("reads a minute later\n got %q\nwant %q", got, want)
		}
	})
}

// Writes are not stale: they see what is there.
func TestStaleReadsAndWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		remove := srv.Inject(smtest.Fault{Stale: time.Hour, Times: 3})
		for _, version := range []string{"b", "c"} {
			if err := put(t.Context(), c, "s", version, "two of "+version); err != nil {
				t.Fatal(err)
			}
		}
		if err := move(t.Context(), c, "s", cur, "c", "b"); err != nil {
			t.Fatal(err)
		}
		// Nor do they count.
		for i, want := range []string{"one", "one", "one", "two of b"} {
			if got := seen(t, c, "s", "", ""); got != want {
				t.Errorf("read %d = %q, want %q", i, got, want)
			}
		}
		remove()
	})
}

// A service has many replicas, of which only some lag behind.
func TestStaleNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("s", "one")
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Stale: time.Minute, Probability: 0.5})
		srv.Put("s", "two")
		count := make(map[string]int)
		for range 100 {
			count[seen(t, c, "s", "", "")]++
		}
		if count["one"] < 30 || count["two"] < 30 || count["one"]+count["two"] != 100 {
			t.Errorf("reads = %v, want about as many of each", count)
		}
		time.Sleep(time.Minute)
		for range 20 {
			if got := seen(t, c, "s", "", ""); got != "two" {
				t.Errorf("a minute later a read is %q", got)
			}
		}
	})
}

// Only one label lags, and a Region may.
func TestStaleLabelAndRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("s", "one")
		if _, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{
			SecretId: aws.String("s"), AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}},
		}); err != nil {
			t.Fatal(err)
		}
		far := srv.Client(func(o *sm.Options) { o.Region, o.RetryMaxAttempts = "eu-west-1", 1 })
		removeLabel := srv.Inject(smtest.Fault{Stage: pend, Stale: time.Second})
		removeRegion := srv.Inject(smtest.Fault{Region: "eu-west-1", Stale: time.Minute})
		srv.StartRotation("s", "two")
		if got := seen(t, c, "s", "", pend); got != gone {
			t.Errorf("AWSPENDING = %s just now", got)
		}
		srv.FinishRotation("s")
		if here, there := seen(t, c, "s", "", ""), seen(t, far, "s", "", ""); here != "two" || there != "one" {
			t.Errorf("here %s, there %s, want two and one", here, there)
		}
		removeLabel()
		time.Sleep(59 * time.Second)
		if got := seen(t, far, "s", "", ""); got != "one" {
			t.Errorf("there %s after 59 s, want one", got)
		}
		time.Sleep(time.Second)
		if got := seen(t, far, "s", "", ""); got != "two" {
			t.Errorf("there %s after a minute, want two", got)
		}
		srv.Put("s", "three")
		removeRegion()
		if got := seen(t, far, "s", "", ""); got != "three" {
			t.Errorf("there %s without the fault, want three", got)
		}
		// What came before a fault is not remembered for it.
		srv.Inject(smtest.Fault{Stale: time.Hour})
		if got := seen(t, far, "s", "", ""); got != "three" {
			t.Errorf("there %s, want three: the fault is newer", got)
		}
		srv.Put("s", "four")
		if got := seen(t, far, "s", "", ""); got != "three" {
			t.Errorf("there %s, want three", got)
		}
	})
}

// What nobody can be behind any more is forgotten.
func TestStaleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newServer(t)
		srv.Put("s", "one")
		srv.Inject(smtest.Fault{Stale: 10 * time.Second})
		for i := range 100 {
			srv.Put("s", fmt.Sprint("value ", i))
			time.Sleep(time.Second)
		}
		if n := srv.Remembered("s"); n > 11 {
			t.Errorf("%d states are remembered, want 11 at most", n)
		}
	})
}

// Rotations by the server itself are stale as well.
func TestStaleRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.AddFunction("*", srv.KeepValue())
		if err := rotate(t, c, "x", later, days(1)); err != nil {
			t.Fatal(err)
		}
		srv.Inject(smtest.Fault{Operation: "ListSecretVersionIds", Stale: time.Minute})
		sleepUntil(t, srv, "2000-01-02")
		if got := versions(t, c, "s"); got != "a:AWSCURRENT" {
			t.Errorf("versions = %s just after the rotation", got)
		}
		time.Sleep(time.Minute)
		if got := versions(t, c, "s"); !strings.Contains(got, "a:AWSPREVIOUS") || strings.Contains(got, pend) {
			t.Errorf("versions = %s a minute later", got)
		}
	})
}

// Nor do the Server's own methods change what a reader that is behind sees.
func TestStaleOwnMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.AddFunction("*", srv.KeepValue())
		srv.Inject(smtest.Fault{Operation: "ListSecretVersionIds", Caller: "AKIASTALESTALESTALE", Stale: time.Second})
		behind := srv.Client(srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::123456789012:user/behind", AccessKeyID: "AKIASTALESTALESTALE"}))
		for _, tt := range []struct {
			name   string
			change func()
		}{
			{"Put", func() { srv.Put("s", "two") }},
			{"StartRotation", func() { srv.StartRotation("s", "three") }},
			{"FinishRotation", func() { srv.FinishRotation("s") }},
			{"StartRotation again", func() { srv.StartRotation("s", "four") }},
			{"AbandonRotation", func() { srv.AbandonRotation("s") }},
			{"Rotate", func() {
				if _, err := srv.Rotate(t.Context(), "s", "five"); err != nil {
					t.Fatal(err)
				}
			}},
			{"KeepValue", func() {
				if err := rotate(t, c, "k"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}},
		} {
			before := versions(t, c, "s")
			tt.change()
			after := versions(t, c, "s")
			if got := versions(t, behind, "s"); got != before || before == after {
				t.Errorf("%s: from %q to %q, seen as %q", tt.name, before, after, got)
			}
			time.Sleep(time.Second)
			if got := versions(t, behind, "s"); got != after {
				t.Errorf("%s: a second later %q, want %q", tt.name, got, after)
			}
		}
	})
}

// A rotation that takes its time is seen step by step.
func TestStaleManaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Inject(smtest.Fault{Operation: "GetSecretValue", Stale: time.Second})
		srv.PutManaged("s", "one", smtest.Manager{
			Service:  "rds",
			NewValue: func(context.Context, string) (string, error) { time.Sleep(10 * time.Second); return "two", nil },
			SetValue: func(context.Context, string) error { time.Sleep(10 * time.Second); return nil },
		})
		time.Sleep(time.Minute)
		if _, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			after            time.Duration
			current, pending string
		}{
			{9500 * time.Millisecond, "one", gone},
			{time.Second, "one", gone}, // It has been there for half a second.
			{time.Second, "one", "two"},
			{9 * time.Second, "one", "two"}, // AWSCURRENT has moved half a second ago.
			{time.Second, "two", gone},
		} {
			time.Sleep(tt.after)
			if cur, p := seen(t, c, "s", "", ""), seen(t, c, "s", "", pend); cur != tt.current || p != tt.pending {
				t.Errorf("at %v: %s, %s, want %s, %s", time.Now().UTC(), cur, p, tt.current, tt.pending)
			}
		}
	})
}
