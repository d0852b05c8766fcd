package smtest

import (
	"context"
	"time"
)

// A rotationConfig is what RotateSecret has set for a secret.
type rotationConfig struct {
	enabled  *bool // nil until rotation was set up once
	function string
	rules    *rotationRules
	rotated  time.Time
	next     time.Time // when the schedule rotates it; zero if it does not

	// Of managed external secrets: kept, and used by nobody here.
	externalRole     string
	externalMetadata []metadataItem
}

type metadataItem struct {
	Key   string
	Value string
}

type rotationRules struct {
	AutomaticallyAfterDays *int   `json:"AutomaticallyAfterDays,omitempty"`
	Duration               string `json:"Duration,omitempty"`
	ScheduleExpression     string `json:"ScheduleExpression,omitempty"`
}

type rotateSecretInput struct {
	SecretID           string         `json:"SecretId"`
	ClientRequestToken string         `json:"ClientRequestToken"`
	RotationLambdaARN  string         `json:"RotationLambdaARN"`
	RotationRules      *rotationRules `json:"RotationRules"`
	RotateImmediately  *bool          `json:"RotateImmediately"`
}

func (in rotateSecretInput) target() target {
	t := secretTarget(in.SecretID)
	t.version = in.ClientRequestToken
	return t
}

// rotateSecret starts a rotation and answers. Everything is checked before
// anything is stored. The server owns the goroutine: Close cancels it and waits.
func rotateSecret(req *request, in rotateSecretInput) (secretRef, *Error) {
	if err := checkToken(in.ClientRequestToken, codeInvalidParameter); err != nil {
		return secretRef{}, err
	}
	if err := checkLength("rotationLambdaARN", in.RotationLambdaARN, 0, 2048); err != nil {
		return secretRef{}, err
	}
	if _, err := in.RotationRules.schedule(); err != nil {
		return secretRef{}, err
	}
	s := req.server
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	arn := in.RotationLambdaARN
	if arn == "" {
		arn = sec.rotation.function
	}
	fn, err := s.functionLocked(arn)
	if err != nil {
		return secretRef{}, err
	}
	out := secretRef{ARN: sec.arn, Name: sec.name, VersionID: in.ClientRequestToken}
	again, err := s.reattemptLocked(sec, fn, in.ClientRequestToken)
	if again || err != nil {
		return out, err
	}
	if err := sec.checkLabels([]string{labelPending}); err != nil {
		return secretRef{}, err
	}

	enabled := true
	sec.rotation.enabled, sec.rotation.function = &enabled, arn
	if in.RotationRules != nil {
		sec.rotation.rules = in.RotationRules
	}
	var val *payload
	temp := in.RotateImmediately != nil && !*in.RotateImmediately
	if temp {
		// Rotation is only being set up: the function shows that it works, on a
		// temporary version with the present value.
		cur := sec.current()
		if cur == nil {
			return secretRef{ARN: sec.arn, Name: sec.name}, nil
		}
		val = cur.value
	}
	sec.newVersion(in.ClientRequestToken, val, req.now)
	sec.labels[labelPending] = in.ClientRequestToken
	go s.startLocked(context.Background(), sec, in.ClientRequestToken, fn, temp).run()
	return out, nil
}

// reattemptLocked looks for an earlier rotation. One that is not complete is
// reattempted, unless it is still running, and the call fails. again means that
// this very request was already served.
func (s *Server) reattemptLocked(sec *secret, fn Function, token string) (again bool, err *Error) {
	incomplete := invalidRequest("A previous rotation isn't complete. That rotation will be reattempted.")
	if sec.running() {
		if sec.run.token == token {
			return true, nil
		}
		return false, incomplete
	}
	if id, ok := sec.labels[labelPending]; ok && id != sec.labels[labelCurrent] {
		go s.startLocked(context.Background(), sec, id, fn, false).run()
		return false, incomplete
	}
	if sec.versions[token] != nil {
		if sec.labels[labelCurrent] == token {
			return true, nil
		}
		return false, sec.tokenUsed(token)
	}
	return false, nil
}

// cancelRotateSecret switches rotation off. Labels, the function and the rules
// stay, and a rotation that is running goes on.
func cancelRotateSecret(req *request, in secretIDInput) (secretRef, *Error) {
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	if sec.rotation.function == "" {
		return secretRef{}, invalidRequest("You can't cancel rotation for a secret that does not have rotation enabled.")
	}
	enabled := false
	sec.rotation.enabled = &enabled
	out := secretRef{ARN: sec.arn, Name: sec.name}
	if id := sec.labels[labelPending]; id != sec.labels[labelCurrent] {
		out.VersionID = id
	}
	return out, nil
}
