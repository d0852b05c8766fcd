package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

func TestRotation(t *testing.T) {
	srv, mem := newService(t), newMemory()
	var log bytes.Buffer
	h := rotation.NewHandler(srv.client, mem, &rotation.Options{
		Password: rotation.PasswordOptions{Length: 20, ExcludePunctuation: true},
		Logger:   slog.New(slog.NewJSONHandler(&log, nil)),
	})
	srv.AddFunction(functionID, smtest.Lambda(h.Handle))
	for range 3 {
		before := srv.password("AWSCURRENT")
		out, err := srv.client.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
			SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), secretName); err != nil {
			t.Fatal(err)
		}
		srv.checkRotated(mem, *out.VersionId)
		if got := srv.password("AWSPREVIOUS"); got != before {
			t.Error("AWSPREVIOUS is not what AWSCURRENT was")
		}
		now := srv.password("AWSCURRENT")
		if now == before || len(now) != 20 || strings.ContainsFunc(now, func(r rune) bool { return strings.ContainsRune("!#$%-_.", r) }) {
			t.Errorf("a new password of 20 characters without punctuation was wanted, got %d, new: %t", len(now), now != before)
		}
		if strings.Contains(log.String(), now) {
			t.Error("the password is in the log")
		}
		// All else in the value is as it was, byte for byte.
		value, err := srv.client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(secretName)})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Replace(*value.SecretString, now, "first", 1); got != firstValue {
			t.Errorf("the new value, with the old password, is\n%s\nwant\n%s", got, firstValue)
		}
	}
	if got := strings.Count(log.String(), "rotation step done"); got != 12 {
		t.Errorf("%d log lines for 3 rotations, want 12", got)
	}
}

// Every step may come twice, also when the next one has run, and after the end.
func TestRepeated(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	for range 2 {
		token := srv.begin(t)
		for i := range steps {
			if err := run(t.Context(), h, token, steps[i], steps[i]); err != nil {
				t.Fatal(err)
			}
			pending := srv.password("AWSPENDING")
			if err := run(t.Context(), h, token, steps[:i+1]...); err != nil {
				t.Fatal(err)
			}
			if srv.password("AWSPENDING") != pending {
				t.Errorf("repeating %q changed the pending password", steps[:i+1])
			}
		}
		srv.checkRotated(mem, token)
	}
	if got := srv.Count("PutSecretValue"); got != 2 {
		t.Errorf("%d values were stored in 2 rotations", got)
	}
}

// A rotation is killed before and after each call that it makes, to the service
// and to the target, and started over with the same token, as the service does.
func TestKilled(t *testing.T) {
	testKilled(t, func(srv *service, _ string) rotation.API { return srv.client })
}

// The same, where all reads lag behind: what was done just before the end is
// not seen at first.
func TestKilledStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		testKilled(t, func(srv *service, token string) rotation.API { return &stale{API: srv.client, token: token} })
	})
}

func testKilled(t *testing.T, client func(srv *service, token string) rotation.API) {
	srv, mem, l := newService(t), newMemory(), &killtest.Life{}
	mem.life = l
	puts := 0
	for n := 1; ; n++ {
		l.Begin(0)
		token := srv.begin(t)
		h := rotation.NewHandler(killtest.Client{API: client(srv, token), Life: l}, mem, nil)
		l.Begin(n)
		err := run(t.Context(), h, token, steps...)
		if !l.Over() {
			if n < 30 {
				t.Fatalf("a rotation has but %d moments to be killed at", n)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("killed at %d moments; %d calls of PutSecretValue", n-1, srv.Count("PutSecretValue"))
			return
		}
		l.Begin(0)
		// What the target has must be within reach of a client: see package retry.
		mem.mu.Lock()
		live := mem.passwords["app"]
		mem.mu.Unlock()
		if live != srv.password("AWSCURRENT") && live != srv.password("AWSPENDING") {
			t.Fatalf("killed at %d: neither AWSCURRENT nor AWSPENDING logs in", n)
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		srv.checkRotated(mem, token)

		// Once stored, a value is not replaced, nor is it tried more than once.
		now := srv.Count("PutSecretValue")
		if now-puts > 2 {
			t.Errorf("killed at %d: PutSecretValue was called %d times", n, now-puts)
		}
		puts = now
	}
}

// Lambda may deliver an event twice.
func TestConcurrent(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	for range 10 {
		token := srv.begin(t)
		for _, together := range [][]string{steps[:1], steps[1:2], steps[2:3], steps[3:], steps} {
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if err := run(t.Context(), h, token, together...); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		srv.checkRotated(mem, token)
	}
	for range 10 { // and from the first step on
		token := srv.begin(t)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := run(t.Context(), h, token, steps...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		srv.checkRotated(mem, token)
	}
}

// For a second after each write all reads answer as if it had not happened.
func TestStaleReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, mem := newService(t), newMemory()
		for range 3 {
			token := srv.begin(t)
			h := rotation.NewHandler(&stale{API: srv.client, token: token}, mem, nil)
			for _, step := range steps {
				if err := run(t.Context(), h, token, step, step); err != nil {
					t.Fatal(err)
				}
			}
			if err := run(t.Context(), h, token, steps...); err != nil {
				t.Fatal(err)
			}
			srv.checkRotated(mem, token)
		}
	})
}

// What was put into the secret just before the rotation is not lost because
// GetSecretValue still gives the version before.
func TestStaleCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, mem := newService(t), newMemory()
		client := &stale{API: srv.client, fresh: true}
		client.remember(t.Context())
		srv.Put(secretName, strings.Replace(firstValue, `"id":`, `"new":true, "id":`, 1))
		token := srv.begin(t)
		client.token = token
		if err := run(t.Context(), rotation.NewHandler(client, mem, nil), token, steps...); err != nil {
			t.Fatal(err)
		}
		srv.checkRotated(mem, token)
		out, err := srv.client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(secretName)})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(*out.SecretString, `"new":true`) {
			t.Error("the new version was made from an old one")
		}
	})
}

func TestRotationToken(t *testing.T) {
	srv, mem := newService(t), newMemory()
	seen := &recorder{API: srv.client}
	h := rotation.NewHandler(seen, mem, nil)
	e := event("createSecret", srv.begin(t))
	const proof = "5f1bd9cf-2e3c-4a6f-9d6e-0c2f2f7f4a11" // of the role, for secrets of other accounts
	e.RotationToken = proof
	if err := h.Handle(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if seen.put == nil || aws.ToString(seen.put.RotationToken) != proof {
		t.Error("the RotationToken was not passed on to PutSecretValue")
	}
}

func TestEventJSON(t *testing.T) {
	// As AWS sends it.
	const sent = `{"Step":"setSecret","SecretId":"arn:x","ClientRequestToken":"t","RotationToken":"r"}`
	var got rotation.Event
	if err := rotation.NewValue(sent).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := rotation.Event{Step: "setSecret", SecretID: "arn:x", ClientRequestToken: "t", RotationToken: "r"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// RotateSecret with RotateImmediately=false has the function test a copy of
// AWSCURRENT, and nothing else.
func TestTestOnly(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	srv.AddFunction(functionID, smtest.Lambda(h.Handle))
	_, err := srv.client.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID), RotateImmediately: aws.Bool(false),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), secretName); err != nil {
		t.Error(err)
	}
	if got := srv.password("AWSCURRENT"); got != "first" {
		t.Error("the password has changed")
	}
}

// A target where AWSCURRENT has not arrived is healed with AWSPREVIOUS.
func TestPrevious(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	srv.Put(secretName, strings.Replace(firstValue, "first", "never arrived", 1))
	token := srv.begin(t)
	if err := run(t.Context(), h, token, steps...); err != nil {
		t.Fatal(err)
	}
	srv.checkRotated(mem, token)
}

// Another delivery of setSecret is at work all the while, and faster: by the time
// that this one tries AWSPREVIOUS, that is refused too.
func TestSetMeanwhile(t *testing.T) {
	srv, mem := newService(t), newMemory()
	srv.Put(secretName, strings.Replace(firstValue, "first", "never arrived", 1))
	token := srv.begin(t)
	if err := run(t.Context(), rotation.NewHandler(srv.client, mem, nil), token, steps[0]); err != nil {
		t.Fatal(err)
	}
	h := rotation.NewHandler(srv.client, &overtaken{mem}, nil)
	if err := run(t.Context(), h, token, steps[1:]...); err != nil {
		t.Fatal(err)
	}
	srv.checkRotated(mem, token)
}

type overtaken struct{ *memory }

func (o *overtaken) Set(ctx context.Context, c rotation.Change) error {
	var as, pending login
	if err := errors.Join(c.As.Decode(&as), c.Pending.Decode(&pending)); err != nil {
		return err
	}
	if as.Password == "first" {
		o.set(pending.Password)
	}
	return o.memory.Set(ctx, c)
}

// A rotation is cut off after setSecret, somebody gives it up by taking
// AWSPENDING off, and the next one finds no labelled version that logs in.
func TestGivenUp(t *testing.T) {
	for _, lists := range []bool{true, false} {
		srv, mem := newService(t), newMemory()
		h := rotation.NewHandler(srv.client, mem, nil)
		if !lists {
			h = rotation.NewHandler(killtest.Client{API: srv.client, Life: &killtest.Life{}}, mem, nil)
		}
		for range 4 { // versions that are older, and are not tried
			if err := run(t.Context(), h, srv.begin(t), steps...); err != nil {
				t.Fatal(err)
			}
		}
		token := srv.begin(t)
		if err := run(t.Context(), h, token, steps[:2]...); err != nil {
			t.Fatal(err)
		}
		_, err := srv.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: aws.String(secretName), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: aws.String(token),
		})
		if err != nil {
			t.Fatal(err)
		}
		token = srv.begin(t)
		logins := mem.logins
		err = run(t.Context(), h, token, steps...)
		if !lists {
			if err == nil || !strings.Contains(err.Error(), "no ListSecretVersionIds") {
				t.Errorf("Handle = %v, want an error that says why the unlabelled versions were not tried", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		srv.checkRotated(mem, token)
		if n := mem.logins - logins; n > 8 {
			t.Errorf("it took %d logins", n)
		}
	}
}

// An answer that is lost is no answer: a login tells what happened.
func TestAmbiguousSet(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	token := srv.begin(t)
	mem.dropped = true
	if err := run(t.Context(), h, token, steps...); err != nil {
		t.Fatal(err)
	}
	srv.checkRotated(mem, token)
	if got := srv.stages(token); !slices.Contains(got, "AWSCURRENT") {
		t.Error(got)
	}
}
