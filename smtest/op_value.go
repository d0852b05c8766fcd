package smtest

import "cmp"

type getSecretValueInput struct {
	SecretID     string `json:"SecretId"`
	VersionID    string `json:"VersionId"`
	VersionStage string `json:"VersionStage"`
}

func (in getSecretValueInput) target() target {
	t := secretTarget(in.SecretID)
	t.version = in.VersionID
	stage := in.VersionStage
	if in.VersionID == "" {
		stage = cmp.Or(stage, labelCurrent)
	}
	if stage != "" {
		t.stages = []string{stage}
	}
	return t
}

type secretValue struct {
	ARN           string
	Name          string
	VersionID     string   `json:"VersionId"`
	SecretString  *string  `json:"SecretString,omitempty"`
	SecretBinary  []byte   `json:"SecretBinary,omitempty"`
	VersionStages []string `json:"VersionStages,omitempty"`
	CreatedDate   epoch
}

func (v secretValue) versionID() string { return v.VersionID }

func getSecretValue(req *request, in getSecretValueInput) (secretValue, *Error) {
	if err := checkLength("versionId", in.VersionID, 0, 64); err != nil {
		return secretValue{}, err
	}
	if err := checkLength("versionStage", in.VersionStage, 0, 256); err != nil {
		return secretValue{}, err
	}
	sec, err := req.live(in.SecretID)
	if err != nil {
		return secretValue{}, err
	}
	v, err := sec.get(in.VersionID, in.VersionStage)
	if err != nil {
		return secretValue{}, err
	}
	sec.touch(v, req.now)
	return secretValue{
		ARN:           sec.arn,
		Name:          sec.name,
		VersionID:     v.id,
		SecretString:  v.value.text,
		SecretBinary:  v.value.binary,
		VersionStages: sec.stages(v.id),
		CreatedDate:   epoch{v.created},
	}, nil
}

type batchGetSecretValueInput struct {
	SecretIDList []string `json:"SecretIdList"`
	Filters      []any    `json:"Filters"`
}

func (in batchGetSecretValueInput) target() target {
	return target{ids: in.SecretIDList, stages: []string{labelCurrent}}
}

type batchGetSecretValueOutput struct {
	SecretValues []secretValue
	Errors       []batchError
}

type batchError struct {
	SecretID  string `json:"SecretId"`
	ErrorCode string
	Message   string
}

// batchGetSecretValue answers for AWSCURRENT only. A secret that cannot be read
// fails on its own.
func batchGetSecretValue(req *request, in batchGetSecretValueInput) (batchGetSecretValueOutput, *Error) {
	switch n := len(in.SecretIDList); {
	case in.Filters != nil:
		return batchGetSecretValueOutput{}, invalidParameter("smtest: Filters are not supported, use SecretIdList.")
	case n == 0:
		return batchGetSecretValueOutput{}, invalidParameter("You must specify SecretIdList or Filters.")
	case n > 20:
		return batchGetSecretValueOutput{}, constraint("secretIdList", "Member must have length less than or equal to 20")
	}
	out := batchGetSecretValueOutput{SecretValues: []secretValue{}, Errors: []batchError{}}
	for _, id := range in.SecretIDList {
		v, err := getSecretValue(req, getSecretValueInput{SecretID: id})
		if err != nil {
			out.Errors = append(out.Errors, batchError{SecretID: id, ErrorCode: err.Code, Message: err.Message})
			continue
		}
		out.SecretValues = append(out.SecretValues, v)
	}
	return out, nil
}

type putSecretValueInput struct {
	SecretID           string   `json:"SecretId"`
	ClientRequestToken string   `json:"ClientRequestToken"`
	SecretBinary       []byte   `json:"SecretBinary"`
	SecretString       *string  `json:"SecretString"`
	VersionStages      []string `json:"VersionStages"`
}

func (in putSecretValueInput) stages() []string {
	if len(in.VersionStages) == 0 {
		return []string{labelCurrent}
	}
	return in.VersionStages
}

func (in putSecretValueInput) target() target {
	t := secretTarget(in.SecretID)
	t.stages, t.version = in.stages(), in.ClientRequestToken
	return t
}

type putSecretValueOutput struct {
	ARN           string
	Name          string
	VersionID     string   `json:"VersionId"`
	VersionStages []string `json:"VersionStages,omitempty"`
}

func putSecretValue(req *request, in putSecretValueInput) (putSecretValueOutput, *Error) {
	if err := checkStages(in.VersionStages); err != nil {
		return putSecretValueOutput{}, err
	}
	if err := checkToken(in.ClientRequestToken, codeInvalidRequest); err != nil {
		return putSecretValueOutput{}, err
	}
	val, err := newPayload(in.SecretString, in.SecretBinary)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	sec, err := req.writable(in.SecretID)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	v, err := sec.put(in.ClientRequestToken, val, in.stages(), req.now)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	return putSecretValueOutput{ARN: sec.arn, Name: sec.name, VersionID: v.id, VersionStages: sec.stages(v.id)}, nil
}
