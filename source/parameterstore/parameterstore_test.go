package parameterstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/source/parameterstore"
)

func newCache(t *testing.T, api cache.API, opts *cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(api, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// world returns a store with three versions of /prod/db: one, two, three. The first
// has the label "old", the second "live".
func world(t *testing.T) (*store, *ssm.Client) {
	t.Helper()
	s := newStore()
	client := s.client("us-east-1")
	for _, value := range []string{"one", "two", "three"} {
		put(t, client, "/prod/db", value)
	}
	label(t, client, "/prod/db", 1, "old")
	label(t, client, "/prod/db", 2, "live", "V2.0_a-b")
	s.asked()
	return s, client
}

const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/prod/db"

// What is read is a secret with all its fields, and the service is told who asks.
func TestFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, client := world(t)
		time.Sleep(time.Hour)
		got, err := parameterstore.New(client, nil).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("/prod/db")})
		if err != nil {
			t.Fatal(err)
		}
		if *got.ARN != arn || *got.Name != "/prod/db" || *got.VersionId != "3" || *got.SecretString != "three" || got.SecretBinary != nil ||
			!slices.Equal(got.VersionStages, []string{"AWSCURRENT"}) || !got.CreatedDate.Equal(time.Now().Add(-time.Hour)) {
			t.Errorf("got %v %v %v %v %v", *got.ARN, *got.Name, *got.VersionId, got.VersionStages, got.CreatedDate)
		}
		if asked := s.asked(); !slices.Equal(asked, []string{"GetParameter /prod/db"}) {
			t.Errorf("calls %q", asked)
		}
		if agent := s.agents[len(s.agents)-1]; !strings.Contains(agent, "keyturn/") {
			t.Errorf("User-Agent %q", agent)
		}
	})
}

// Which version a staging label, a version ID and a selector mean, and what it costs.
func TestVersionsAndStages(t *testing.T) {
	s, client := world(t)
	labels := &parameterstore.Options{CurrentLabel: "live", PendingLabel: "next", PreviousLabel: "old"}
	for _, test := range []struct {
		opts      *parameterstore.Options
		id        string
		version   string
		stage     string
		want      string // the value; none: not found
		wantARN   string
		wantCalls []string // the names asked for
	}{
		{nil, "/prod/db", "", "", "three", arn, []string{"/prod/db"}},
		{nil, "/prod/db", "", "AWSCURRENT", "three", arn, []string{"/prod/db"}},
		{nil, "/prod/db", "", "AWSPREVIOUS", "two", arn, []string{"/prod/db", "/prod/db:2"}},
		{nil, "/prod/db", "", "AWSPENDING", "", "", nil},
		{nil, "/prod/db", "", "live", "two", arn, []string{"/prod/db:live"}},
		{nil, "/prod/db", "", "V2.0_a-b", "two", arn, []string{"/prod/db:V2.0_a-b"}},
		{nil, "/prod/db", "", "none", "", "", []string{"/prod/db:none"}},
		{nil, "/prod/db", "", "1", "", "", nil},
		{nil, "/prod/db", "", "live:1", "", "", nil},
		{nil, "/prod/db", "", "AwsOther", "", "", nil},
		{nil, "/prod/db", "", "ssm-other", "", "", nil},
		{nil, "/prod/db", "", strings.Repeat("x", 101), "", "", nil},
		{nil, "/prod/db", "1", "", "one", arn, []string{"/prod/db:1"}},
		{nil, "/prod/db", "4", "", "", "", []string{"/prod/db:4"}},
		{nil, "/prod/db", "live", "", "", "", nil},
		{nil, "/prod/db", "01", "", "", "", nil},
		{nil, "/prod/db", "0", "", "", "", nil},
		{nil, "/prod/db", "", "AWSCURRENT", "three", arn, []string{"/prod/db"}},
		{nil, "/prod/none", "", "AWSPREVIOUS", "", "", []string{"/prod/none"}},
		{labels, "/prod/db", "", "", "two", arn, []string{"/prod/db:live"}},
		{labels, "/prod/db", "", "AWSPREVIOUS", "one", arn, []string{"/prod/db:old"}},
		{labels, "/prod/db", "", "AWSPENDING", "", "", []string{"/prod/db:next"}},
		{&parameterstore.Options{CurrentLabel: "live"}, "/prod/db", "", "AWSPREVIOUS", "one", arn, []string{"/prod/db:live", "/prod/db:1"}},
		{&parameterstore.Options{CurrentLabel: "old"}, "/prod/db", "", "AWSPREVIOUS", "", "", []string{"/prod/db:old"}},
		{nil, arn, "", "", "three", arn, []string{arn}},
		{nil, arn, "", "AWSPREVIOUS", "two", arn, []string{arn, arn + ":2"}},
		{nil, arn, "1", "", "one", arn, []string{arn + ":1"}},
		{nil, arn + ":live", "", "", "two", arn + ":live", []string{arn + ":live"}},
		{nil, "/prod/db:live", "", "", "two", arn + ":live", []string{"/prod/db:live"}},
		{nil, "/prod/db:live", "", "AWSPREVIOUS", "one", arn + ":live", []string{"/prod/db:live", "/prod/db:1"}},
		{nil, "/prod/db:live", "3", "", "three", arn + ":live", []string{"/prod/db:3"}},
		{labels, "/prod/db:3", "", "", "three", arn + ":3", []string{"/prod/db:3"}},
		{
			nil, "arn:aws:ssm:us-east-1:210987654321:parameter/prod/db", "", "", "three", "arn:aws:ssm:us-east-1:210987654321:parameter/prod/db",
			[]string{"arn:aws:ssm:us-east-1:210987654321:parameter/prod/db"},
		},
		{nil, "arn:", "", "", "", "", []string{"arn:"}},
	} {
		in := &secretsmanager.GetSecretValueInput{SecretId: &test.id}
		var stages []string
		if test.version != "" {
			in.VersionId = &test.version
		} else {
			stages = []string{"AWSCURRENT"}
		}
		if test.stage != "" {
			in.VersionStage, stages = &test.stage, []string{test.stage}
		}
		got, err := parameterstore.New(client, test.opts).GetSecretValue(t.Context(), in)
		calls := s.asked()
		for i := range calls {
			calls[i] = strings.TrimPrefix(calls[i], "GetParameter ")
		}
		name := test.id + " " + test.version + test.stage
		if !slices.Equal(calls, test.wantCalls) {
			t.Errorf("%s: calls %q, want %q", name, calls, test.wantCalls)
		}
		if test.want == "" {
			if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
				t.Errorf("%s: got %v, error %v, want a ResourceNotFoundException", name, got, err)
			}
			continue
		}
		if err != nil || *got.SecretString != test.want || *got.ARN != test.wantARN || !slices.Equal(got.VersionStages, stages) {
			t.Errorf("%s: got %v, error %v, want %q of %s, labels %q", name, got, err, test.want, test.wantARN, stages)
		}
	}
}

// An ARN is read in its own Region, by the same client.
func TestRegions(t *testing.T) {
	s := newStore()
	put(t, s.client("us-east-1"), "/prod/db", "east")
	put(t, s.client("eu-west-1"), "/prod/db", "west")
	c := newCache(t, parameterstore.New(s.client("us-east-1"), nil), nil)
	for id, want := range map[string]string{
		"/prod/db": "east",
		"arn:aws:ssm:us-east-1:123456789012:parameter/prod/db": "east",
		"arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db": "west",
	} {
		if got, err := c.Get(t.Context(), id); err != nil || got.Text() != want || got.ARN() != id && id != "/prod/db" {
			t.Errorf("%s: got %v, error %v, want %q", id, got, err, want)
		}
	}
}

// A cache over it tells IDs with a selector from those without, keeps versions apart,
// and finds a new one.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := world(t)
		var changes []string
		c := newCache(t, parameterstore.New(client, nil), &cache.Options{
			OnChange: func(old, new *cache.Secret) { changes = append(changes, old.VersionID()+" to "+new.VersionID()) },
		})
		want := func(id, text string) *cache.Secret {
			t.Helper()
			s, err := c.Get(t.Context(), id)
			if err != nil || s.Text() != text {
				t.Errorf("%s: got %v, error %v, want %q", id, s, err, text)
			}
			return s
		}
		old := want("/prod/db", "three")
		want("/prod/db:live", "two")
		want(arn, "three")
		want(arn+":live", "two")
		want("/prod/db:1", "one")

		put(t, client, "/prod/db", "four")
		want("/prod/db", "three")
		if s, err := c.RefreshIf(t.Context(), "/prod/db", old.VersionID()); err != nil || s.Text() != "three" {
			t.Errorf("within MinRefresh: got %v, error %v, want what is held", s, err)
		}
		time.Sleep(2 * time.Second)
		if s, err := c.RefreshIf(t.Context(), "/prod/db", old.VersionID()); err != nil || s.Text() != "four" {
			t.Errorf("forced: got %v, error %v, want the new version", s, err)
		}
		want(arn, "four")
		want("/prod/db:live", "two")
		for id, text := range map[string]string{"3": "three", "4": "four", "1": "one"} {
			if s, err := c.GetVersion(t.Context(), "/prod/db", id); err != nil || s.Text() != text || s.VersionID() != id {
				t.Errorf("version %s: got %v, error %v, want %q", id, s, err, text)
			}
		}
		if _, err := c.GetVersion(t.Context(), "/prod/db", "live"); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("a label for a version: error %v, want ErrNotFound", err)
		}
		label(t, client, "/prod/db", 4, "live")
		time.Sleep(6 * time.Minute)
		want("/prod/db:live", "four")
		synctest.Wait()
		if !slices.Equal(changes, []string{"3 to 4", "2 to 4"}) {
			t.Errorf("changes %q", changes)
		}
	})
}

// A version is what it was when it was made, whatever comes after; beyond the hundred
// that Parameter Store keeps it is gone.
func TestVersionsAreImmutable(t *testing.T) {
	_, client := world(t)
	c := newCache(t, parameterstore.New(client, nil), &cache.Options{TTL: -1})
	for range 97 {
		put(t, client, "/prod/db", "another")
	}
	if s, err := c.GetVersion(t.Context(), "/prod/db", "2"); err != nil || s.Text() != "two" || s.Stages() != nil {
		t.Errorf("got %v, error %v, want the second value", s, err)
	}
	for range 2 {
		put(t, client, "/prod/db", "another")
	}
	if _, err := c.GetVersion(t.Context(), "/prod/db", "1"); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

// StringList and String are text too, and a reference to Secrets Manager is none.
func TestTypes(t *testing.T) {
	s, client := world(t)
	for kind, value := range map[ssmtypes.ParameterType]string{ssmtypes.ParameterTypeString: "plain", ssmtypes.ParameterTypeStringList: "a,b"} {
		name := "/types/" + string(kind)
		if _, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: &value, Type: kind}); err != nil {
			t.Fatal(err)
		}
		if got, err := newCache(t, parameterstore.New(client, nil), nil).Get(t.Context(), name); err != nil || got.Text() != value {
			t.Errorf("%s: got %v, error %v, want %q", kind, got, err, value)
		}
	}
	name := "/aws/reference/secretsmanager/prod"
	s.parameters["us-east-1"+name] = &parameter{versions: []*version{{kind: "SecureString", value: "x"}}}
	_, err := parameterstore.New(client, nil).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	if err == nil || !strings.Contains(err.Error(), "with that service's own client") {
		t.Errorf("a reference: error %v", err)
	}
}

// The service's errors are those of Secrets Manager to package cache, and say what to
// do; both services' own are found in them.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		failure   failure
		as        func(error) bool
		notFound  bool
		transient bool
		advice    string
	}{
		{
			failure{400, "ParameterNotFound", ""},
			isBoth[*types.ResourceNotFoundException, *ssmtypes.ParameterNotFound], true, false,
			"ResourceNotFoundException: there is no such parameter (check the name",
		},
		{failure{400, "ParameterVersionNotFound", "no version 9"}, isBoth[*types.ResourceNotFoundException, *ssmtypes.ParameterVersionNotFound], true, false, "no version 9"},
		{failure{500, "InternalServerError", "oops"}, isBoth[*types.InternalServiceError, *ssmtypes.InternalServerError], false, true, "oops"},
		{failure{400, "InvalidKeyId", "is disabled"}, isBoth[*types.DecryptionFailure, *ssmtypes.InvalidKeyId], false, false, "is disabled (allow kms:Decrypt"},
		{failure{400, "ThrottlingException", "Rate exceeded"}, nil, false, true, "Rate exceeded"},
		{
			failure{400, "AccessDeniedException", "User: arn:aws:iam::123456789012:user/u is not authorized to perform: ssm:GetParameter on resource: " + arn +
				" because no identity-based policy allows the ssm:GetParameter action"},
			nil, false, false,
			"add ssm:GetParameter on " + arn,
		},
		{failure{400, "AccessDeniedException", "User: u is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:123456789012:key/k " +
			"because no resource-based policy allows the kms:Decrypt action"}, nil, false, false, "the KMS key policy"},
		{failure{400, "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, " +
			"or you are not allowed to access."}, nil, false, false, "allow kms:Decrypt on the key of /prod/db"},
		{failure{503, "", ""}, nil, false, true, "UnknownError"},
	} {
		synctest.Test(t, func(t *testing.T) { // for the SDK's retries, which wait
			s, client := world(t)
			s.fail = func(string) *failure { return &test.failure }
			_, err := newCache(t, parameterstore.New(client, nil), nil).Get(t.Context(), "/prod/db")
			failed, ok := errors.AsType[*cache.Error](err)
			if !ok {
				t.Fatalf("%s: error %v", test.failure.code, err)
			}
			if failed.Transient != test.transient || errors.Is(err, cache.ErrNotFound) != test.notFound || !strings.Contains(err.Error(), test.advice) ||
				test.as != nil && !test.as(err) {
				t.Errorf("%v: transient %v, not found %v, error %#v %q; want %v, %v and %q", test.failure, failed.Transient,
					errors.Is(err, cache.ErrNotFound), failed.Err, err, test.transient, test.notFound, test.advice)
			}
			answer, ok := errors.AsType[*awshttp.ResponseError](err)
			op, found := errors.AsType[*smithy.OperationError](err)
			if !ok || answer.ServiceRequestID() != "0d1e2f3a" || answer.HTTPStatusCode() != test.failure.status || !found || op.Service() != "SSM" {
				t.Errorf("%v: %v does not tell of the call", test.failure, err)
			}
		})
	}
}

func isBoth[A, B error](err error) bool {
	_, a := errors.AsType[A](err)
	_, b := errors.AsType[B](err)
	return a && b
}

// A bare is an API that is no SDK client.
type bare func(string) (*ssm.GetParameterOutput, error)

func (f bare) GetParameter(_ context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	return f(*in.Name)
}

// What is asked or set up wrongly is said before any call; what another API does is
// passed on or said.
func TestMisuse(t *testing.T) {
	_, client := world(t)
	id, v, stage := aws.String("/prod/db"), aws.String("1"), aws.String("live")
	broken := errors.New("broken")
	for _, test := range []struct {
		api  parameterstore.API
		opts *parameterstore.Options
		in   *secretsmanager.GetSecretValueInput
		want string
	}{
		{nil, nil, &secretsmanager.GetSecretValueInput{SecretId: id}, "give New a *ssm.Client"},
		{client, nil, nil, "no parameter name"},
		{client, nil, &secretsmanager.GetSecretValueInput{}, "no parameter name"},
		{client, nil, &secretsmanager.GetSecretValueInput{SecretId: id, VersionId: v, VersionStage: stage}, "not both"},
		{client, &parameterstore.Options{CurrentLabel: "awslive"}, &secretsmanager.GetSecretValueInput{SecretId: id}, `the label "awslive", which no parameter can have`},
		{client, &parameterstore.Options{PendingLabel: "2"}, &secretsmanager.GetSecretValueInput{SecretId: id}, `"2"`},
		{client, &parameterstore.Options{PreviousLabel: "a b"}, &secretsmanager.GetSecretValueInput{SecretId: id}, `"a b"`},
		{bare(func(string) (*ssm.GetParameterOutput, error) { return nil, nil }), nil, &secretsmanager.GetSecretValueInput{SecretId: id}, "neither"},
		{bare(func(string) (*ssm.GetParameterOutput, error) { return nil, broken }), nil, &secretsmanager.GetSecretValueInput{SecretId: id}, "broken"},
		{
			bare(func(string) (*ssm.GetParameterOutput, error) { return nil, &ssmtypes.ParameterNotFound{} }), nil,
			&secretsmanager.GetSecretValueInput{SecretId: id}, "ResourceNotFoundException",
		},
	} {
		_, err := parameterstore.New(test.api, test.opts).GetSecretValue(t.Context(), test.in)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}
