package smtest

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Function is a rotation function, called with the event of one step as the
// service passes it to Lambda: a JSON object with the members Step, SecretId (the
// secret's full ARN), ClientRequestToken (the id of the new version) and, if the
// function's ARN is of another account than the secret's, RotationToken. It should
// return when ctx is done, which is when the server is closed, CancelRotateSecret
// was called or the context of [Server.Rotate] ends. An error or a panic fails the
// step and with it the rotation. Its text is logged: it must not hold a secret.
type Function func(ctx context.Context, event []byte) error

// Lambda makes a Function of a handler with its event type, as one passes it to
// lambda.Start of aws-lambda-go.
func Lambda[E any](handler func(context.Context, E) error) Function {
	return func(ctx context.Context, event []byte) error {
		var e E
		if err := json.Unmarshal(event, &e); err != nil {
			return fmt.Errorf("smtest: decode rotation event: %w", err)
		}
		return handler(ctx, e)
	}
}

// AddFunction registers fn as the function that RotateSecret may name as its
// RotationLambdaARN; nil removes it. The ARN "*" stands for every function that is
// not registered by its own. A rotation that is running keeps the function that it
// started with.
func (s *Server) AddFunction(arn string, fn Function) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fn == nil {
		delete(s.funcs, arn)
		return
	}
	s.funcs[arn] = fn
}

// functionLocked returns the function that a rotation of the secret calls.
func (s *Server) functionLocked(sec *secret, arn string) (Function, *Error) {
	if sec.rotation.manager != nil {
		return sec.rotation.manager, nil
	}
	if arn == "" {
		return nil, invalidRequest("No Lambda rotation function ARN is associated with this secret.")
	}
	fn := s.funcs[arn]
	if fn == nil {
		fn = s.funcs["*"]
	}
	if fn == nil {
		return nil, &Error{
			Code: codeAccessDenied,
			Message: "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants " +
				"access to the principal secretsmanager.amazonaws.com.",
		}
	}
	return fn, nil
}
