package rotation

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// API is what a [Handler] needs of Secrets Manager. [*secretsmanager.Client]
// satisfies it. It must be safe for concurrent use if the Handler is used so.
type API interface {
	DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
	GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
	PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error)
	UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error)
	GetRandomPassword(ctx context.Context, in *secretsmanager.GetRandomPasswordInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetRandomPasswordOutput, error)
}

// Event is what Secrets Manager sends to the function. Printed or logged it does
// not show the RotationToken; encoded as JSON it is the event as it came.
type Event struct {
	Step     string `json:"Step"`     // createSecret, setSecret, testSecret or finishSecret
	SecretID string `json:"SecretId"` // an ARN; a name will do

	// ClientRequestToken is the id of the version that is to become current.
	ClientRequestToken string `json:"ClientRequestToken"`

	// RotationToken is there when the function runs under an assumed role. It is
	// sensitive: do not log it.
	RotationToken string `json:"RotationToken,omitempty"`
}

// Format prints the event without its RotationToken, whatever the verb.
func (e Event) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s}", e.Step, e.SecretID, e.ClientRequestToken)
}

// LogValue returns the event without its RotationToken.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("step", e.Step), slog.String("secret_id", e.SecretID), slog.String("version_id", e.ClientRequestToken),
	)
}

// The steps, in the order in which Secrets Manager calls them.
const (
	stepCreate = "createSecret"
	stepSet    = "setSecret"
	stepTest   = "testSecret"
	stepFinish = "finishSecret"
)

const (
	stageCurrent  = "AWSCURRENT"
	stagePending  = "AWSPENDING"
	stagePrevious = "AWSPREVIOUS"
)

// Options are the optional parts of a [Handler]. A zero field is its default.
type Options struct {
	// PasswordLength is the length of a generated password. 0: 32.
	PasswordLength int

	// ExcludeCharacters are kept out of a generated password. Empty: :/@"'\
	// which are those that AWS's own PostgreSQL function keeps out, because they
	// break connection strings that are put together by hand.
	ExcludeCharacters string

	// ExcludePunctuation keeps all punctuation out.
	ExcludePunctuation bool

	// SettleTime is how long a step repeats reads whose answer does not fit the
	// rotation that it was called for: a value that is not found, a label that
	// is not there. Secrets Manager is eventually consistent, and a moment after
	// a write such answers are normal. 0: 3 s. Negative: no repetition. It delays
	// the error when the answer was right, and must fit the function's timeout.
	SettleTime time.Duration

	// Logger gets one line per step that was carried out. nil: silent.
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var v Options
	if o != nil {
		v = *o
	}
	if v.PasswordLength <= 0 {
		v.PasswordLength = 32
	}
	if v.ExcludeCharacters == "" {
		v.ExcludeCharacters = `:/@"'\`
	}
	if v.SettleTime == 0 {
		v.SettleTime = 3 * time.Second
	}
	if v.Logger == nil {
		v.Logger = slog.New(slog.DiscardHandler)
	}
	return v
}

// Handler carries out rotations. It holds no state: its methods may be called
// concurrently, for any number of secrets that have the same kind of target.
type Handler struct {
	client API
	target Target
	opts   Options
}

// NewHandler returns a handler that keeps values in Secrets Manager and
// credentials in target. opts may be nil. It panics if client or target is nil.
func NewHandler(client API, target Target, opts *Options) *Handler {
	if client == nil || target == nil {
		panic("rotation: NewHandler needs a client and a target")
	}
	return &Handler{client: client, target: target, opts: opts.withDefaults()}
}

// Handle carries out one step; it is made for lambda.Start. It returns nil if
// the step's work is done, be it by this call or an earlier one, and an
// [*Error] otherwise. Every error may be answered by calling all four steps
// again with the same token.
func (h *Handler) Handle(ctx context.Context, e Event) error {
	s := &step{Handler: h, event: e}
	result, err := s.run(ctx)
	if err != nil {
		return newError(e, err)
	}
	h.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "rotation step done",
		slog.String("secret_id", e.SecretID),
		slog.String("version_id", e.ClientRequestToken),
		slog.String("step", e.Step),
		slog.String("result", result))
	return nil
}
