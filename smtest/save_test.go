package smtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// A buffer is a journal in memory.
type buffer struct {
	mu sync.Mutex // protects b
	b  []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b)
}

func (b *buffer) set(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = bytes.Clone(p)
}

// load returns a server with a state.
func load(t *testing.T, state []byte, opts *smtest.Options) *smtest.Server {
	t.Helper()
	srv := smtest.New(opts)
	t.Cleanup(srv.Close)
	if err := srv.Load(bytes.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	return srv
}

func save(t *testing.T, srv *smtest.Server) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := srv.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSave saves secrets of two accounts and two Regions, of both kinds and with all
// that may be said of a secret, and finds the same state when it is loaded.
func TestSave(t *testing.T) {
	srv, c := newServer(t)
	other := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::111122223333:user/app"})
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"*","Resource":"*"}]}`
	create(t, c, "s", "a", "one")
	for _, err := range []error{
		put(t.Context(), c, "s", "b", "two"),
		put(t.Context(), c, "s", "c", "three"), // Of a there is no label any more.
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, do := range map[string]func() error{
		"binary": func() error {
			_, err := srv.Client(other).CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s"), SecretBinary: []byte{0, 255, 10}})
			return err
		},
		"empty": func() error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{
				Name: aws.String("empty"), Description: aws.String("<&\u2028>"), KmsKeyId: aws.String("alias/mine"), Tags: tags("k", ""),
			})
			return err
		},
		"policy": func() error {
			_, err := c.PutResourcePolicy(t.Context(), &sm.PutResourcePolicyInput{SecretId: aws.String("s"), ResourcePolicy: &policy})
			return err
		},
		"replica": func() error {
			_, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{SecretId: aws.String("s"), AddReplicaRegions: regions("eu-west-1")})
			return err
		},
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	state := save(t, srv)
	loaded := load(t, state, nil)
	if again := save(t, loaded); !bytes.Equal(again, state) {
		t.Errorf("the state is another\n got %s\nwant %s", again, state)
	}
	other = loaded.AddCaller(smtest.Caller{ARN: "arn:aws:iam::111122223333:user/app"})
	out, err := loaded.Client(other).GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || !bytes.Equal(out.SecretBinary, []byte{0, 255, 10}) {
		t.Errorf("the other account's secret: %v", err)
	}
	if got, want := versions(t, client(loaded), "s"), "a: b:AWSPREVIOUS c:AWSCURRENT"; got != want {
		t.Errorf("versions %s, want %s", got, want)
	}
	if err := loaded.Load(bytes.NewReader(state)); err == nil {
		t.Error("a server with secrets loads others")
	}
	if err := srv.Save(brokenWriter{}); !errors.Is(err, errBroken) {
		t.Errorf("Save to a broken writer: %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// TestLoadTorn tears a journal off at every byte: what is loaded is the state after
// the last record that is whole. Torn off before the journal begins it is refused.
func TestLoadTorn(t *testing.T) {
	var journal bytes.Buffer
	srv := smtest.New(&smtest.Options{Journal: &journal})
	c := client(srv)
	journal.Write(save(t, srv))
	create(t, c, "first", "a", "one")
	journal.Reset() // The state is to have a secret in it.
	journal.Write(save(t, srv))
	states := [][]byte{save(t, srv)}
	lengths := []int{journal.Len()}
	for _, do := range []func() error{
		func() error { return put(t.Context(), c, "first", "b", "two") },
		func() error { return move(t.Context(), c, "first", cur, "b", "a") },
		func() error { srv.Put("second", "one"); return nil },
		func() error {
			_, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("second"), ForceDeleteWithoutRecovery: aws.Bool(true)})
			return err
		},
		func() error { srv.Put("second", "two"); return nil },
		func() error { _, err := read(t.Context(), c, "first"); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if journal.Len() == lengths[len(lengths)-1] {
			t.Fatalf("change %d is not in the journal", len(lengths))
		}
		states, lengths = append(states, save(t, srv)), append(lengths, journal.Len())
	}
	for n := range journal.Len() + 1 {
		torn := smtest.New(nil)
		err := torn.Load(bytes.NewReader(journal.Bytes()[:n]))
		if n < lengths[0] {
			if err == nil {
				t.Errorf("%d of the state's %d bytes are loaded", n, lengths[0])
			}
			continue
		}
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
			continue
		}
		last := 0
		for i, length := range lengths {
			if length <= n {
				last = i
			}
		}
		if got := save(t, torn); !bytes.Equal(got, states[last]) {
			t.Errorf("%d bytes: state\n got %s\nwant %s", n, got, states[last])
		}
	}
	// A change that is in the state already does no harm.
	twice := append(save(t, srv), journal.Bytes()[lengths[0]:]...)
	if got := save(t, load(t, twice, nil)); !bytes.Equal(got, states[len(states)-1]) {
		t.Errorf("the journal on top of its state\n got %s\nwant %s", got, states[len(states)-1])
	}
}

func TestLoadRefuses(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "secret-value")
	if _, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{SecretId: aws.String("s"), AddReplicaRegions: regions("eu-west-1")}); err != nil {
		t.Fatal(err)
	}
	good := string(save(t, srv))
	lines := strings.SplitAfter(good, "\n") // The header, the replica, the primary.
	for name, tt := range map[string]struct{ state, want string }{
		"nothing":       {"", "this is not a state of smtest"},
		"a text":        {"secret-value\n", "line 1: this is not a state of smtest"},
		"another JSON":  {`{"secret-value":1}` + "\n", "line 1: this is not a state of smtest"},
		"newer":         {strings.Replace(good, `"version":1`, `"version":2`, 1), "line 1: the state has version 2"},
		"cut off":       {lines[0] + lines[1], "it is cut off: of 2 records there are 1"},
		"no JSON":       {good + "secret-value\n", "line 4: this is damaged"},
		"two records":   {good + `{"removed":[]}{"removed":[]}` + "\n", "line 4: this is damaged"},
		"a member":      {good + `{"secret-value":1}` + "\n", "line 4: this is damaged"},
		"a type":        {strings.Replace(good, `"text":"secret-value"`, `"text":1`, 1), "line 3: this is damaged"},
		"null":          {good + `{"secrets":[null]}` + "\n", "line 4: this is damaged"},
		"no ARN":        {good + `{"secrets":[{"arn":"s"}]}` + "\n", "line 4: this is damaged"},
		"partial ARN":   {good + `{"secrets":[{"arn":"arn:aws:secretsmanager:us-east-1:123456789012:secret:s"}]}` + "\n", "line 4: this is damaged"},
		"same name":     {good + `{"secrets":[{"arn":"arn:aws:secretsmanager:us-east-1:123456789012:secret:s-000000"}]}` + "\n", "has the same name"},
		"label":         {strings.Replace(good, `{"AWSCURRENT":"a`, `{"AWSCURRENT":"b`, 1), "there is no version for label \"AWSCURRENT\""},
		"no value":      {strings.Replace(good, `,"text":"secret-value"`, ``, 1), "it has no current value"},
		"no primary":    {strings.Replace(lines[0], "2", "1", 1) + lines[1], "its primary is missing"},
		"no replica":    {strings.Replace(lines[0], "2", "1", 1) + lines[2], "its replica in \"eu-west-1\" is missing"},
		"no beginning":  {strings.Replace(good, `"labels":`, `"rotation":{"rules":{}},"labels":`, 1), "its rotation schedule has no beginning"},
		"broken policy": {strings.Replace(good, `"labels":`, `"policy":"secret-value","labels":`, 1), "its policy"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, c := newServer(t)
			err := srv.Load(strings.NewReader(tt.state))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "smtest: load: ") {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-value") {
				t.Errorf("the error shows a value: %v", err)
			}
			out, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
			if err != nil || len(out.SecretList) > 0 {
				t.Errorf("%d secrets are loaded, %v", len(out.SecretList), err)
			}
		})
	}
	fresh := smtest.New(nil)
	if err := fresh.Load(io.MultiReader(strings.NewReader(lines[0]), brokenReader{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken reader: %v", err)
	}
}

// A gate is a journal that keeps who writes waiting.
type gate struct {
	open chan struct{} // one receive for a Write

	mu     sync.Mutex // protects writes
	writes []string
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, string(p))
	return len(p), nil
}

// TestJournalWaits lets no change be answered, nor told of, before it is written, and
// those that come while one is written be written together.
func TestJournalWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		srv := smtest.New(&smtest.Options{Journal: g})
		c := client(srv)
		answers := make(map[string]bool)
		var mu sync.Mutex
		ask := func(name string, do func() error) {
			go func() {
				err := do()
				mu.Lock()
				defer mu.Unlock()
				answers[name] = true
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
			synctest.Wait()
		}
		want := func(n int, names ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if got := len(answers); got != len(names) {
				t.Errorf("answers %v, want %v", answers, names)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if len(g.writes) != n {
				t.Errorf("%d writes, want %d", len(g.writes), n)
			}
		}
		ask("nothing changes", func() error {
			_, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
			return err
		})
		want(0, "nothing changes")
		ask("create", func() error {
			_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s"), ClientRequestToken: aws.String(ver("a")), SecretString: aws.String("one")})
			return err
		})
		ask("read", func() error {
			_, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
			return err
		})
		ask("same put", func() error { return put(t.Context(), c, "s", "a", "one") })
		ask("put", func() error { return put(t.Context(), c, "s", "b", "two") })
		ask("in process", func() error { srv.Put("t", "one"); return nil })
		want(0, "nothing changes")
		g.open <- struct{}{}
		synctest.Wait()
		want(1, "nothing changes", "create", "read", "same put")
		g.open <- struct{}{}
		synctest.Wait()
		want(2, "nothing changes", "create", "read", "same put", "put", "in process")
		if lines := strings.Count(g.writes[1], "\n"); lines != 2 {
			t.Errorf("the second write has %d lines, want 2", lines)
		}
		srv.Close()
	})
}

// TestJournalFails lets the journal fail: who changed something is not told that it is
// done, then or later, and nothing more is written.
func TestJournalFails(t *testing.T) {
	writes, broken := 0, false
	srv := smtest.New(&smtest.Options{Journal: writerFunc(func(p []byte) (int, error) {
		writes++
		if broken {
			return 0, errBroken
		}
		return len(p), nil
	})})
	defer srv.Close()
	c := client(srv)
	create(t, c, "s", "a", "one")
	wantValue(t, c, "s", "one")
	broken = true
	for _, version := range []string{"b", "c"} {
		wantError(t, put(t.Context(), c, "s", version, "two"), "InternalServiceError: An error occurred on the server side.")
	}
	if writes != 3 {
		t.Errorf("%d writes, want those of the creation, of the first read and of a put", writes)
	}
	if n := len(srv.CallsLike(smtest.Call{Operation: "PutSecretValue", Code: "InternalServiceError"})); n != 2 {
		t.Errorf("%d calls with the error in the log, want 2", n)
	}
}

// TestJournalHasAll changes the state in the ways that are no request: what Load makes
// of the journal is what Save says of the server, at which nobody has looked since.
func TestJournalHasAll(t *testing.T) {
	daily := &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(1)}
	hang := func(ctx context.Context, _ []byte) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, tt := range map[string]struct {
		rules  *types.RotationRulesType
		rotate func(*smtest.Server) smtest.Function // nil: there is no rotation
		do     func(*testing.T, *smtest.Server)
	}{
		"Put":        {do: func(_ *testing.T, srv *smtest.Server) { srv.Put("s", "two") }},
		"Put, new":   {do: func(_ *testing.T, srv *smtest.Server) { srv.Put("new", "one") }},
		"PutManaged": {do: func(_ *testing.T, srv *smtest.Server) { srv.PutManaged("rds!db", "one", manager) }},
		"Rotate": {do: func(t *testing.T, srv *smtest.Server) {
			if _, err := srv.Rotate(t.Context(), "s", "two"); err != nil {
				t.Fatal(err)
			}
		}},
		"StartRotation": {do: func(_ *testing.T, srv *smtest.Server) { srv.StartRotation("s", "two") }},
		"FinishRotation": {do: func(_ *testing.T, srv *smtest.Server) {
			srv.StartRotation("s", "two")
			srv.FinishRotation("s")
		}},
		"AbandonRotation": {do: func(_ *testing.T, srv *smtest.Server) {
			srv.StartRotation("s", "two")
			srv.AbandonRotation("s")
		}},
		"begin of a rotation by schedule": {rules: daily, rotate: func(*smtest.Server) smtest.Function { return hang }, do: oneDay},
		"rotation by schedule":            {rules: daily, rotate: (*smtest.Server).KeepValue, do: oneDay},
		"createSecret inside": {rules: daily, do: oneDay, rotate: func(srv *smtest.Server) smtest.Function {
			keep := srv.KeepValue()
			return func(ctx context.Context, event []byte) error {
				if bytes.Contains(event, []byte("setSecret")) {
					return hang(ctx, event)
				}
				return keep(ctx, event)
			}
		}},
		"promotion of a replica": {do: func(t *testing.T, srv *smtest.Server) {
			_, err := client(srv).StopReplicationToReplica(t.Context(), &sm.StopReplicationToReplicaInput{SecretId: aws.String("replicated")}, inReplica)
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var journal buffer
				srv := smtest.New(&smtest.Options{Journal: &journal, Rotation: smtest.RotationOptions{CleanupDelay: time.Minute}})
				defer srv.Close()
				c := client(srv)
				create(t, c, "s", "a", "one")
				create(t, c, "replicated", "a", "one")
				_, err := c.ReplicateSecretToRegions(t.Context(), &sm.ReplicateSecretToRegionsInput{SecretId: aws.String("replicated"), AddReplicaRegions: regions(randomReplica)})
				if err != nil {
					t.Fatal(err)
				}
				if tt.rotate != nil {
					srv.AddFunction(functionARN, srv.KeepValue())
					_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
						SecretId: aws.String("s"), RotationLambdaARN: aws.String(functionARN), RotationRules: tt.rules,
					})
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Hour)
					srv.AddFunction(functionARN, tt.rotate(srv))
				}
				synctest.Wait()
				journal.set(save(t, srv))
				before := len(journal.bytes())

				tt.do(t, srv)
				synctest.Wait()
				if len(journal.bytes()) == before {
					t.Error("nothing is in the journal")
				}
				want := save(t, srv)
				loaded := smtest.New(nil)
				defer loaded.Close()
				if err := loaded.Load(bytes.NewReader(withoutRuns(journal.bytes()))); err != nil {
					t.Fatal(err)
				}
				if got := save(t, loaded); !bytes.Equal(got, withoutRuns(want)) {
					t.Errorf("state\n got %s\nwant %s", got, withoutRuns(want))
				}
			})
		})
	}
}

// manager is that of a managed secret.
var manager = smtest.Manager{Service: "rds", NewValue: func(context.Context, string) (string, error) { return "new", nil }}

// oneDay passes a day and some, in which a daily schedule is due once, and what a
// rotation leaves behind is cleaned up.
func oneDay(*testing.T, *smtest.Server) { time.Sleep(25 * time.Hour) }

// withoutRuns takes the rotations that are running out of a state: Load would start
// them anew.
func withoutRuns(state []byte) []byte { return runs.ReplaceAll(state, nil) }

var runs = regexp.MustCompile(`,"run":\{[^}]*\}`)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestLoadResumes loads states in which a rotation was running.
func TestLoadResumes(t *testing.T) {
	for name, tt := range map[string]struct {
		immediately bool
		want        string
	}{
		"rotation":           {true, "a:AWSPREVIOUS new:AWSCURRENT"},
		"test of a rotation": {false, "a:AWSCURRENT"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := newServer(t)
				create(t, c, "s", "a", "one")
				srv.AddFunction(functionARN, func(ctx context.Context, _ []byte) error {
					<-ctx.Done() // It is in the middle of its work when the server is killed.
					return ctx.Err()
				})
				_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
					SecretId: aws.String("s"), ClientRequestToken: aws.String(ver("new")),
					RotationLambdaARN: aws.String(functionARN), RotateImmediately: &tt.immediately,
				})
				if err != nil {
					t.Fatal(err)
				}
				state := save(t, srv)

				next := smtest.New(nil)
				t.Cleanup(next.Close)
				next.AddFunction(functionARN, next.KeepValue())
				if err := next.Load(bytes.NewReader(state)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
				if got := versions(t, client(next), "s"); got != tt.want {
					t.Errorf("versions %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestLoadSchedule loads a state whose schedule was due while no server had it.
func TestLoadSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.AddFunction(functionARN, srv.KeepValue())
		create(t, c, "s", "a", "one")
		_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
			SecretId: aws.String("s"), RotationLambdaARN: aws.String(functionARN),
			RotationRules: &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(1)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		state := save(t, srv)
		srv.Close()
		before := len(strings.Fields(versions(t, client(load(t, state, nil)), "s")))

		time.Sleep(10 * 24 * time.Hour)
		next := smtest.New(nil)
		defer next.Close()
		next.AddFunction(functionARN, next.KeepValue())
		if err := next.Load(bytes.NewReader(state)); err != nil {
			t.Fatal(err)
		}
		for n, wait := range []time.Duration{time.Minute, 24 * time.Hour, 24 * time.Hour} {
			time.Sleep(wait)
			if got := len(strings.Fields(versions(t, client(next), "s"))); got != before+n+1 {
				t.Errorf("%d versions after %d waits, want %d", got, n+1, before+n+1)
			}
		}
	})
}

// TestLoadScheduleThatFails loads the state of a secret whose rotation by schedule has
// failed: it is not tried again before its next window, whose dates are the same.
func TestLoadScheduleThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := &smtest.Options{Rotation: smtest.RotationOptions{Retries: -1}}
		srv := smtest.New(opts)
		defer srv.Close()
		c := client(srv)
		srv.AddFunction(functionARN, srv.KeepValue())
		create(t, c, "s", "a", "one")
		time.Sleep(90 * time.Minute)
		_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
			SecretId: aws.String("s"), RotationLambdaARN: aws.String(functionARN),
			RotationRules: &types.RotationRulesType{ScheduleExpression: aws.String("rate(7 hours)")},
		})
		if err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int64
		fails := func(context.Context, []byte) error {
			calls.Add(1)
			return errBroken
		}
		synctest.Wait()
		srv.AddFunction(functionARN, fails)
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if calls.Load() != 1 {
			t.Fatalf("%d calls by the schedule, want 1", calls.Load())
		}
		describe := func(srv *smtest.Server) string {
			out, err := client(srv).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
			if err != nil {
				t.Fatal(err)
			}
			out.ResultMetadata = noMetadata
			return asJSON(t, out)
		}
		next := smtest.New(opts)
		defer next.Close()
		next.AddFunction(functionARN, fails)
		if err := next.Load(bytes.NewReader(save(t, srv))); err != nil {
			t.Fatal(err)
		}
		if got, want := describe(next), describe(srv); got != want {
			t.Errorf("DescribeSecret\n got %s\nwant %s", got, want)
		}
		srv.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d calls after the state was loaded, want none more", calls.Load()-1)
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if calls.Load() != 2 {
			t.Errorf("%d calls in the next window, want 1", calls.Load()-1)
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		if err := srv.Drain(t.Context()); err != nil {
			t.Errorf("nothing is running: %v", err)
		}
		keep := srv.KeepValue()
		srv.AddFunction(functionARN, func(ctx context.Context, event []byte) error {
			time.Sleep(time.Second)
			return keep(ctx, event)
		})
		_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: aws.String("s"), RotationLambdaARN: aws.String(functionARN)})
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := srv.Drain(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), ":secret:s-") {
			t.Errorf("Drain = %v, want that s rotates still", err)
		}
		if err := srv.Drain(t.Context()); err != nil {
			t.Errorf("Drain = %v", err)
		}
		if got := versions(t, c, "s"); !strings.Contains(got, ":AWSCURRENT") || !strings.Contains(got, "a:AWSPREVIOUS") {
			t.Errorf("versions %s after Drain", got)
		}
	})
}

func ExampleServer_Save() {
	srv := smtest.New(nil)
	srv.Put("prod/db", "one")
	var state bytes.Buffer
	if err := srv.Save(&state); err != nil {
		fmt.Println(err)
	}
	srv.Close()

	next := smtest.New(nil)
	defer next.Close()
	if err := next.Load(&state); err != nil {
		fmt.Println(err)
	}
	out, err := next.Client().GetSecretValue(context.Background(), &sm.GetSecretValueInput{SecretId: aws.String("prod/db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(*out.SecretString)

	// Output:
	// one
}

// FuzzLoad checks that no state is loaded that the server cannot go on with.
func FuzzLoad(f *testing.F) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("s", "one")
	srv.StartRotation("s", "two")
	var state bytes.Buffer
	if err := srv.Save(&state); err != nil {
		f.Fatal(err)
	}
	lines := strings.SplitAfter(state.String(), "\n")
	f.Add(lines[1])
	f.Add(`{"secrets":[{"arn":"arn:aws:secretsmanager:us-east-1:123456789012:secret:a-000000","rotation":{"enabled":true,"rules":{"ScheduleExpression":"rate(x)"},"run":{"token":"x","temporary":true}}}]}`)
	f.Add(`{"removed":[""],"secrets":[{"arn":"arn:aws:secretsmanager:us-east-1:123456789012:secret:a-000000","primary":"us-east-1","replicas":[{"region":"us-east-1"}]}]}`)
	f.Fuzz(func(t *testing.T, journal string) {
		srv := smtest.New(nil)
		defer srv.Close()
		if err := srv.Load(strings.NewReader(`{"format":"smtest","version":1,"records":0}` + "\n" + journal + "\n")); err != nil {
			return
		}
		c := client(srv)
		out, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		for _, sec := range out.SecretList {
			_, _ = c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: sec.ARN})
			_, _ = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: sec.ARN})
			_, _ = c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: sec.ARN, SecretString: aws.String("x")})
			_, _ = c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: sec.ARN})
		}
		if err := srv.Save(io.Discard); err != nil {
			t.Error(err)
		}
	})
}
