package rotation

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// API is what a [Handler] needs of Secrets Manager. [*secretsmanager.Client]
// satisfies it. It must be safe for concurrent use if the Handler is used so. If it
// has ListSecretVersionIds as that client has it, that is what finds the password
// that works after AWSPENDING was taken off its version.
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

// Handler carries out rotations. It holds no state: its methods may be called
// concurrently, for any number of secrets that have the same kind of target.
type Handler struct {
	client API
	target Target
	opts   Options
}

// NewHandler returns a handler that keeps values in Secrets Manager and
// credentials in target. It does no I/O; a nil opts means all defaults. It panics
// if client or target is nil.
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
//
// It blocks for as long as the service and the target do, and ends when ctx
// does; how long it waits for what is not there yet is bounded by
// [Options.SettleTime] and [Options.ReplicaWait].
func (h *Handler) Handle(ctx context.Context, e Event) error {
	return h.handle(ctx, &step{Handler: h, event: e})
}

func (h *Handler) handle(ctx context.Context, s *step) error {
	result, err := s.run(ctx)
	if err != nil {
		return newError(s.event, err)
	}
	h.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "rotation step done",
		slog.String("secret_id", s.event.SecretID),
		slog.String("version_id", s.event.ClientRequestToken),
		slog.String("step", s.event.Step),
		slog.String("result", result))
	return nil
}
