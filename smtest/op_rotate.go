package smtest

import (
	"regexp"
	"time"
)

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

	ExternalRole     string         `json:"ExternalSecretRotationRoleArn"`
	ExternalMetadata []metadataItem `json:"ExternalSecretRotationMetadata"`
}

func (in rotateSecretInput) target() target {
	t := secretTarget(in.SecretID)
	t.version = in.ClientRequestToken
	return t
}

func (in rotateSecretInput) check() *Error {
	if err := checkToken(in.ClientRequestToken, codeInvalidParameter); err != nil {
		return err
	}
	if err := checkLength("rotationLambdaARN", in.RotationLambdaARN, 0, 2048); err != nil {
		return err
	}
	if in.ExternalRole != "" {
		if err := checkLength("externalSecretRotationRoleArn", in.ExternalRole, 20, 2048); err != nil {
			return err
		}
	}
	_, err := in.RotationRules.schedule()
	return err
}

// rotateSecret starts a rotation and answers. Everything is checked before
// anything is stored.
func rotateSecret(req *request, in rotateSecretInput) (secretRef, *Error) {
	if err := in.check(); err != nil {
		return secretRef{}, err
	}
	s := req.server
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	arn, err := sec.rotationFunction(in.RotationLambdaARN)
	if err != nil {
		return secretRef{}, err
	}
	fn, err := s.functionLocked(sec, arn)
	if err != nil {
		return secretRef{}, err
	}
	out := secretRef{ARN: sec.arn, Name: sec.name, VersionID: in.ClientRequestToken}
	again, err := s.reattemptLocked(sec, fn, in.ClientRequestToken)
	if again || err != nil {
		return out, err
	}
	if err := sec.checkRoom(req.now); err != nil {
		return secretRef{}, err
	}

	sec.rotation.set(arn, in.RotationRules, req.now)
	sec.rotation.setExternal(in.ExternalRole, in.ExternalMetadata)
	s.awaitLocked(sec, req.now)
	if in.RotateImmediately == nil || *in.RotateImmediately {
		sec.newVersion(in.ClientRequestToken, nil, req.now)
		sec.labels[labelPending] = in.ClientRequestToken
		s.launchLocked(sec, in.ClientRequestToken, fn, 0)
		return out, nil
	}
	// Rotation is only being set up: the function shows that it works, on a
	// temporary version with the present value.
	cur := sec.current()
	if cur == nil || sec.owner != "" {
		out.VersionID = ""
		return out, nil
	}
	sec.newVersion(in.ClientRequestToken, cur.value, req.now)
	sec.labels[labelPending] = in.ClientRequestToken
	s.testLocked(sec, in.ClientRequestToken, fn)
	return out, nil
}

var lambdaRE = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:([a-z0-9-]+):(\d{12}):function:[A-Za-z0-9_-]+(:[A-Za-z0-9$_-]+)?$`)

// rotationFunction returns the ARN of the function that a RotateSecret means: the
// given one, or the one it was given before.
func (sec *secret) rotationFunction(arn string) (string, *Error) {
	if arn == "" {
		return sec.rotation.function, nil
	}
	if err := sec.checkUnmanaged(); err != nil {
		return "", err
	}
	if m := lambdaRE.FindStringSubmatch(arn); m == nil || m[1] != sec.store.region {
		return "", invalidParameter("Invalid rotation Lambda ARN. Ensure the ARN matches format "+
			"arn:%s:lambda:%s:<account>:function:<functionName>.", partition(sec.store.region), sec.store.region)
	}
	return arn, nil
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
	if id, ok := sec.incomplete(); ok {
		s.launchLocked(sec, id, fn, 0)
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

// cancelRotateSecret switches rotation off and cancels the one that is running:
// its function's context ends, and no further step is called. Labels, the function
// and the rules stay.
func cancelRotateSecret(req *request, in secretIDInput) (secretRef, *Error) {
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	if sec.rotation.enabled == nil {
		return secretRef{}, invalidRequest("You can't cancel rotation for a secret that does not have rotation enabled.")
	}
	sec.rotation.disable()
	if sec.running() {
		sec.run.cancel()
	}
	out := secretRef{ARN: sec.arn, Name: sec.name}
	if id := sec.labels[labelPending]; id != sec.labels[labelCurrent] {
		out.VersionID = id
	}
	return out, nil
}

func (c *rotationConfig) disable() {
	enabled := false
	c.enabled = &enabled
	c.retryAt = time.Time{}
}
