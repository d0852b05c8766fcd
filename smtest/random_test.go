package smtest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

var randomSeeds = flag.Uint64("random.seeds", 5, "TestRandom runs the seeds from 1 to this")

const randomSteps = 250 // of a seed

// TestRandom does random things to a few secrets through the SDK's client, and after
// each of them holds what the server shows against a model of labels and versions:
// see random_model_test.go. Now and then the server is replaced by one that has loaded
// its state.
//
// To run one seed: go test ./smtest -run 'TestRandom/seed=17$' -random.seeds=17.
func TestRandom(t *testing.T) {
	done := make(map[string]int)
	for seed := uint64(1); seed <= *randomSeeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newRandomRun(t, seed, done).run() })
		})
	}
	if *randomSeeds < 4 {
		return
	}
	for _, step := range randomStepsByName(nil) {
		if done[step.name] == 0 {
			t.Errorf("no seed had a %s that succeeded", step.name)
		}
	}
}

// A randomRun is a server and the model of its secrets.
type randomRun struct {
	t       *testing.T
	rng     *rand.Rand
	srv     *smtest.Server
	c       *sm.Client
	journal *buffer // what Save wrote, and the journal after it
	secrets []*randomSecret
	failAt  atomic.Value // string: the step at which the rotation function fails; empty: none
	done    map[string]int
	tokens  int
	what    string // the step under way
}

func newRandomRun(t *testing.T, seed uint64, done map[string]int) *randomRun {
	r := &randomRun{t: t, rng: rand.New(rand.NewPCG(seed, 0)), done: done}
	for _, name := range []string{"prod/db", "prod/db-abcdef", "api"} {
		r.secrets = append(r.secrets, &randomSecret{name: name})
	}
	r.replace(nil)
	return r
}

// replace starts a server with a state.
func (r *randomRun) replace(state []byte) {
	journal := new(buffer)
	srv := smtest.New(&smtest.Options{Journal: journal})
	r.srv, r.c, r.journal = srv, client(srv), journal
	srv.AddFunction(functionARN, smtest.Lambda(r.rotate))
	if state != nil {
		if err := srv.Load(bytes.NewReader(state)); err != nil {
			r.t.Fatalf("%s: %v", r.what, err)
		}
	}
	if err := srv.Save(journal); err != nil {
		r.t.Fatal(err)
	}
}

func (r *randomRun) run() {
	steps := randomStepsByName(r)
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for n := range randomSteps {
		at, which := r.rng.IntN(total), r.rng.IntN(len(r.secrets))
		for _, s := range steps {
			if at -= s.weight; at >= 0 {
				continue
			}
			sec := r.secrets[which]
			r.what = fmt.Sprintf("step %d, %s of %s", n, s.name, sec.name)
			if err := s.do(sec); err == nil {
				r.done[s.name]++
			}
			break
		}
		synctest.Wait()
		// Before the checks: a look at a secret would write what was forgotten.
		state := r.journal.bytes()
		for i, sec := range r.secrets {
			if i == which || n%10 == 0 {
				r.check(sec)
			}
		}
		if !r.t.Failed() && r.rng.IntN(20) == 0 {
			r.reload(state)
		}
		if r.t.Failed() {
			return
		}
	}
	for _, sec := range r.secrets {
		r.checkValues(sec, len(sec.versions))
	}
	r.srv.Close()
}

// A randomStep is one thing that may be done to a secret. Its error is the server's.
type randomStep struct {
	name   string
	weight int
	do     func(*randomSecret) error
}

func randomStepsByName(r *randomRun) []randomStep {
	return []randomStep{
		{"create", 10, r.create},
		{"put", 20, r.put},
		{"repeated put", 5, r.putAgain},
		{"update", 8, r.update},
		{"move", 15, r.move},
		{"flood", 3, r.flood},
		{"rotation", 8, r.startRotation},
		{"test of a rotation", 3, r.testRotation},
		{"cancellation", 2, r.cancel},
		{"deletion", 3, r.delete},
		{"forced deletion", 1, r.deleteByForce},
		{"restoration", 4, r.restore},
		{"details", 8, r.details},
		{"read", 10, r.read},
		{"pause", 10, r.pause},
	}
}

func (r *randomRun) ctx() context.Context { return r.t.Context() }

// token returns a new version id, or sometimes one that the secret has.
func (r *randomRun) token(sec *randomSecret) string {
	if ids := sec.ids(); len(ids) > 0 && r.rng.IntN(10) == 0 {
		return pick(r, ids)
	}
	r.tokens++
	return ver(fmt.Sprintf("v%d", r.tokens))
}

func pick[T any](r *randomRun, from []T) T { return from[r.rng.IntN(len(from))] }

func (r *randomRun) create(sec *randomSecret) error {
	in := &sm.CreateSecretInput{Name: &sec.name, ClientRequestToken: aws.String(r.token(sec))}
	if r.rng.IntN(4) > 0 {
		in.SecretString = aws.String("created " + *in.ClientRequestToken)
	}
	out, err := r.c.CreateSecret(r.ctx(), in)
	if err == nil && *out.ARN != sec.arn {
		*sec = randomSecret{name: sec.name, arn: *out.ARN, old: sec.old}
		if in.SecretString != nil {
			sec.put(*in.ClientRequestToken, *in.SecretString, nil)
		}
	}
	return err
}

var randomLabels = []string{cur, pend, "blue", "green"}

func (r *randomRun) put(sec *randomSecret) error {
	id := r.token(sec)
	value := "put " + id + pick(r, []string{"", " otherwise"})
	var stages []string
	for r.rng.IntN(2) == 0 {
		if label := pick(r, randomLabels); !slices.Contains(stages, label) {
			stages = append(stages, label)
		}
	}
	_, err := r.c.PutSecretValue(r.ctx(), &sm.PutSecretValueInput{
		SecretId: aws.String(sec.id(r)), ClientRequestToken: &id, SecretString: &value, VersionStages: stages,
	})
	if err == nil {
		sec.put(id, value, stages)
	}
	return err
}

// putAgain puts a value again that the secret has, under its version id.
func (r *randomRun) putAgain(sec *randomSecret) error {
	ids := sec.ids()
	if len(ids) == 0 || sec.gone() {
		return errNothing
	}
	id := pick(r, ids)
	value := sec.versions[id].value
	if value == "" {
		return errNothing
	}
	_, err := r.c.PutSecretValue(r.ctx(), &sm.PutSecretValueInput{
		SecretId: aws.String(sec.id(r)), ClientRequestToken: &id, SecretString: &value, VersionStages: []string{pick(r, randomLabels)},
	})
	if err != nil && !sec.deleted() {
		r.t.Errorf("%s: %v", r.what, err)
	}
	return err
}

var errNothing = errors.New("there was nothing to do it to")

func (r *randomRun) update(sec *randomSecret) error {
	id := r.token(sec)
	in := &sm.UpdateSecretInput{SecretId: aws.String(sec.id(r)), ClientRequestToken: &id}
	if r.rng.IntN(2) == 0 {
		in.Description = aws.String(r.what)
	} else {
		in.SecretString = aws.String("update " + id)
	}
	_, err := r.c.UpdateSecret(r.ctx(), in)
	if err == nil && in.SecretString != nil {
		sec.put(id, *in.SecretString, nil)
	}
	return err
}

func (r *randomRun) move(sec *randomSecret) error {
	ids := append(sec.ids(), ver("nosuch"))
	in := &sm.UpdateSecretVersionStageInput{SecretId: aws.String(sec.id(r)), VersionStage: aws.String(pick(r, randomLabels))}
	at := sec.labels[*in.VersionStage]
	switch r.rng.IntN(6) {
	case 0:
	case 1:
		in.RemoveFromVersionId = aws.String(pick(r, ids))
	default:
		if at != "" {
			in.RemoveFromVersionId = &at
		}
	}
	if r.rng.IntN(4) > 0 {
		in.MoveToVersionId = aws.String(pick(r, ids))
	}
	_, err := r.c.UpdateSecretVersionStage(r.ctx(), in)
	if err == nil {
		sec.move(*in.VersionStage, aws.ToString(in.MoveToVersionId))
	}
	return err
}

// flood puts so many values that some versions are beyond those which are kept.
func (r *randomRun) flood(sec *randomSecret) error {
	for range 40 {
		r.tokens++
		id := ver(fmt.Sprintf("v%d", r.tokens))
		value := "flood " + id
		if err := put(r.ctx(), r.c, sec.id(r), short(id), value); err != nil {
			return err
		}
		sec.put(id, value, nil)
	}
	return nil
}

// rotate is the rotation function.
func (r *randomRun) rotate(ctx context.Context, e event) error {
	if e.Step == r.failAt.Load() {
		return errors.New("it fails")
	}
	token := e.ClientRequestToken
	switch e.Step {
	case "createSecret":
		_, err := r.c.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &e.SecretID, VersionId: &token, VersionStage: aws.String(pend)})
		if err == nil {
			return nil
		}
		return put(ctx, r.c, e.SecretID, short(token), "rotated "+token, pend)
	case "finishSecret":
		out, err := r.c.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &e.SecretID})
		if err != nil || *out.VersionId == token {
			return err
		}
		return move(ctx, r.c, e.SecretID, cur, short(*out.VersionId), short(token))
	}
	return nil
}

func (r *randomRun) startRotation(sec *randomSecret) error {
	if !sec.hasCurrent() {
		// Of a secret whose first value comes by a rotation that fails nobody knows what
		// the service makes.
		return errNothing
	}
	failAt := pick(r, []string{"", "", "", "createSecret", "setSecret", "testSecret", "finishSecret"})
	r.failAt.Store(failAt)
	in := &sm.RotateSecretInput{SecretId: aws.String(sec.id(r)), ClientRequestToken: aws.String(r.token(sec)), RotationLambdaARN: aws.String(functionARN)}
	_, err := r.c.RotateSecret(r.ctx(), in)
	token := *in.ClientRequestToken
	switch {
	case err != nil && strings.Contains(err.Error(), "That rotation will be reattempted"):
		token = sec.labels[pend]
	case err != nil:
		return err
	case sec.versions[token] != nil:
		return nil // It was made AWSCURRENT by a rotation with that token.
	default:
		sec.on = true
	}
	failed := r.srv.Wait(r.ctx(), sec.arn)
	if (failed != nil) != (failAt != "") {
		r.t.Errorf("%s: the rotation ended with %v, and the function fails at %q", r.what, failed, failAt)
	}
	sec.rotated(token, "rotated "+token, failAt)
	sec.retry = sec.on && failAt != ""
	return err
}

func (r *randomRun) testRotation(sec *randomSecret) error {
	failAt := pick(r, []string{"", "testSecret"})
	r.failAt.Store(failAt)
	token := r.token(sec)
	if sec.versions[token] != nil {
		return errNothing
	}
	_, err := r.c.RotateSecret(r.ctx(), &sm.RotateSecretInput{
		SecretId: aws.String(sec.id(r)), ClientRequestToken: &token,
		RotationLambdaARN: aws.String(functionARN), RotateImmediately: aws.Bool(false),
	})
	if err != nil && strings.Contains(err.Error(), "That rotation will be reattempted") {
		token = sec.labels[pend]
		_ = r.srv.Wait(r.ctx(), sec.arn)
		sec.rotated(token, "rotated "+token, failAt)
		sec.retry = sec.on && failAt != ""
		return err
	}
	if err != nil {
		return err
	}
	sec.on, sec.retry = true, false
	if failed := r.srv.Wait(r.ctx(), sec.arn); sec.hasCurrent() && (failed != nil) != (failAt != "") {
		r.t.Errorf("%s: it ended with %v, and the function fails at %q", r.what, failed, failAt)
	}
	if sec.hasCurrent() {
		delete(sec.labels, pend) // It was on AWSCURRENT, if anywhere.
	}
	return nil
}

func (r *randomRun) cancel(sec *randomSecret) error {
	_, err := r.c.CancelRotateSecret(r.ctx(), &sm.CancelRotateSecretInput{SecretId: aws.String(sec.id(r))})
	if err == nil {
		sec.on, sec.retry = false, false
	}
	return err
}

func (r *randomRun) delete(sec *randomSecret) error {
	days := int64(7 + r.rng.IntN(24))
	if !sec.gone() && !sec.deleted() {
		sec.whole = r.show(sec)
	}
	_, err := r.c.DeleteSecret(r.ctx(), &sm.DeleteSecretInput{SecretId: aws.String(sec.id(r)), RecoveryWindowInDays: &days})
	if err == nil {
		sec.deletion = time.Now().Truncate(time.Millisecond).Add(time.Duration(days) * 24 * time.Hour)
	}
	return err
}

func (r *randomRun) deleteByForce(sec *randomSecret) error {
	_, err := r.c.DeleteSecret(r.ctx(), &sm.DeleteSecretInput{SecretId: aws.String(sec.id(r)), ForceDeleteWithoutRecovery: aws.Bool(true)})
	if err == nil {
		*sec = randomSecret{name: sec.name, old: sec.arn}
	}
	return err
}

func (r *randomRun) restore(sec *randomSecret) error {
	_, err := r.c.RestoreSecret(r.ctx(), &sm.RestoreSecretInput{SecretId: aws.String(sec.id(r))})
	if err != nil || !sec.deleted() {
		return err
	}
	sec.deletion = time.Time{}
	if got := r.show(sec); got != sec.whole {
		r.t.Errorf("%s: it is not whole: %s", r.what, difference(got, sec.whole))
	}
	return nil
}

// details changes what is known of a secret besides its values. The model has nothing
// of it: it matters to restoration and reload.
func (r *randomRun) details(sec *randomSecret) error {
	id := aws.String(sec.id(r))
	var err error
	switch r.rng.IntN(7) {
	case 0:
		_, err = r.c.TagResource(r.ctx(), &sm.TagResourceInput{SecretId: id, Tags: tags("team", r.what)})
	case 1:
		_, err = r.c.UntagResource(r.ctx(), &sm.UntagResourceInput{SecretId: id, TagKeys: []string{"team"}})
	case 2:
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"secretsmanager:GetSecretValue","Resource":"*"}]}`
		_, err = r.c.PutResourcePolicy(r.ctx(), &sm.PutResourcePolicyInput{SecretId: id, ResourcePolicy: &policy})
	case 3:
		_, err = r.c.DeleteResourcePolicy(r.ctx(), &sm.DeleteResourcePolicyInput{SecretId: id})
	case 4:
		_, err = r.c.ReplicateSecretToRegions(r.ctx(), &sm.ReplicateSecretToRegionsInput{SecretId: id, AddReplicaRegions: regions(randomReplica)})
	case 5:
		_, err = r.c.RemoveRegionsFromReplication(r.ctx(), &sm.RemoveRegionsFromReplicationInput{SecretId: id, RemoveReplicaRegions: []string{randomReplica}})
	case 6:
		_, err = r.c.StopReplicationToReplica(r.ctx(), &sm.StopReplicationToReplicaInput{SecretId: &sec.name}, inReplica)
	}
	return err
}

const randomReplica = "eu-west-1"

func inReplica(o *sm.Options) { o.Region = randomReplica }

// read reads some version's value, and nothing of a secret that is marked for
// deletion.
func (r *randomRun) read(sec *randomSecret) error {
	if sec.gone() || !sec.hasCurrent() {
		return errNothing
	}
	r.checkValues(sec, 3)
	return nil
}

// pause lets time pass, and rotations that have failed be retried.
func (r *randomRun) pause(*randomSecret) error {
	failAt := pick(r, []string{"", "setSecret"})
	r.failAt.Store(failAt)
	d := pick(r, []time.Duration{time.Millisecond, time.Second, time.Hour, 25 * time.Hour, 8 * 24 * time.Hour})
	time.Sleep(d)
	for _, sec := range r.secrets {
		if !sec.retry || d < time.Hour {
			continue
		}
		sec.retry = false
		if token := sec.labels[pend]; token != "" && token != sec.labels[cur] && !sec.deleted() {
			sec.rotated(token, "rotated "+token, failAt)
		}
	}
	return nil
}

// reload replaces the server by one that has loaded a state, torn off by a crash in
// the middle of a change that nobody was told of.
func (r *randomRun) reload(state []byte) {
	r.what += ", reload"
	before := r.showAll()
	r.srv.Close()
	last := bytes.LastIndexByte(state[:len(state)-1], '\n') + 1
	again := state[last:]
	r.replace(append(state, again[:r.rng.IntN(len(again))]...))
	if after := r.showAll(); after != before {
		r.t.Errorf("%s: the state is another: %s", r.what, difference(after, before))
	}
}

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// showAll is everything that the API tells of every secret, but when it was read.
func (r *randomRun) showAll() string {
	var b strings.Builder
	for _, region := range []string{"us-east-1", randomReplica} {
		out, err := r.c.ListSecrets(r.ctx(), &sm.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)}, func(o *sm.Options) { o.Region = region })
		if err != nil {
			r.t.Fatal(err)
		}
		for _, sec := range out.SecretList {
			fmt.Fprintf(&b, "%s: %s\n", *sec.ARN, r.showOne(*sec.ARN, region, sec.DeletedDate == nil))
		}
	}
	return b.String()
}

// show is everything that the API tells of a secret, but when it was read.
func (r *randomRun) show(sec *randomSecret) string {
	return r.showOne(sec.arn, "us-east-1", true)
}

var accessed = regexp.MustCompile(`"LastAccessedDate":("[^"]*"|null)`)

func (r *randomRun) showOne(arn, region string, live bool) string {
	in := func(o *sm.Options) { o.Region = region }
	var b strings.Builder
	for _, id := range r.versions(arn, in) {
		if !live {
			break
		}
		out, err := r.c.GetSecretValue(r.ctx(), &sm.GetSecretValueInput{SecretId: &arn, VersionId: &id}, in)
		if err == nil {
			fmt.Fprintf(&b, "%s=%s %v %v\n", id, *out.SecretString, out.VersionStages, out.CreatedDate)
		}
	}
	describe, err := r.c.DescribeSecret(r.ctx(), &sm.DescribeSecretInput{SecretId: &arn}, in)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := r.c.ListSecretVersionIds(r.ctx(), &sm.ListSecretVersionIdsInput{SecretId: &arn, IncludeDeprecated: aws.Bool(true)}, in)
	if err != nil {
		r.t.Fatal(err)
	}
	var policy *string
	if live {
		out, err := r.c.GetResourcePolicy(r.ctx(), &sm.GetResourcePolicyInput{SecretId: &arn}, in)
		if err != nil {
			r.t.Fatal(err)
		}
		policy = out.ResourcePolicy
	}
	describe.ResultMetadata, list.ResultMetadata, describe.DeletedDate = noMetadata, noMetadata, nil
	fmt.Fprintf(&b, "%s\n%s\n%s", asJSON(r.t, describe), asJSON(r.t, list), aws.ToString(policy))
	return accessed.ReplaceAllString(b.String(), "")
}

// versions returns the ids of all versions, sorted.
func (r *randomRun) versions(arn string, in func(*sm.Options)) []string {
	ids := slices.Sorted(maps.Keys(r.stages(arn, in)))
	return ids
}

// stages returns all versions with their labels.
func (r *randomRun) stages(arn string, opts ...func(*sm.Options)) map[string][]string {
	out := make(map[string][]string)
	input := &sm.ListSecretVersionIdsInput{SecretId: &arn, IncludeDeprecated: aws.Bool(true)}
	for {
		page, err := r.c.ListSecretVersionIds(r.ctx(), input, opts...)
		if err != nil {
			r.t.Fatalf("%s: %v", r.what, err)
		}
		for _, v := range page.Versions {
			out[*v.VersionId] = v.VersionStages
		}
		if input.NextToken = page.NextToken; input.NextToken == nil {
			return out
		}
	}
}
