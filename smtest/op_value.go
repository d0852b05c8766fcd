package smtest

type getSecretValueInput struct {
	SecretID     string `json:"SecretId"`
	VersionID    string `json:"VersionId"`
	VersionStage string `json:"VersionStage"`
}

func (in getSecretValueInput) target() target {
	t := secretTarget(in.SecretID)
	t.version = in.VersionID
	switch {
	case in.VersionStage != "":
		t.stages = []string{in.VersionStage}
	case in.VersionID == "":
		t.stages, t.unsaid = currentOnly, true
	}
	return t
}

// currentOnly is the stages of a request that leaves AWSCURRENT unsaid. It must not
// be changed.
var currentOnly = []string{labelCurrent}

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
	return req.read(sec, in.VersionID, in.VersionStage)
}

// read reads a version, by id, by label or by both, and notes that it was read.
func (req *request) read(sec *secret, version, stage string) (secretValue, *Error) {
	v, err := sec.get(version, stage)
	if err != nil {
		return secretValue{}, err
	}
	if err := req.decrypt(sec, sec.keyOf(v)); err != nil {
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
	SecretIDList []string      `json:"SecretIdList"`
	Filters      []filterInput `json:"Filters"`
	MaxResults   *int          `json:"MaxResults"`
	NextToken    string        `json:"NextToken"`
}

func (in batchGetSecretValueInput) target() target {
	return target{ids: in.SecretIDList, stages: currentOnly, unsaid: true}
}

func (in batchGetSecretValueInput) check() *Error {
	switch {
	case (len(in.SecretIDList) == 0) == (len(in.Filters) == 0):
		return invalidParameter("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case len(in.SecretIDList) > maxBatch:
		return constraint("secretIdList", "Member must have length less than or equal to 20")
	case len(in.Filters) == 0 && in.MaxResults != nil:
		return invalidParameter("'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.")
	case len(in.Filters) == 0 && in.NextToken != "":
		return invalidParameter("'Filters' not specified. 'Filters' must also be specified when 'NextToken' is provided.")
	}
	return nil
}

// maxBatch is how many secrets a batch reads at most.
const maxBatch = 20

type batchGetSecretValueOutput struct {
	SecretValues []secretValue
	Errors       []batchError
	NextToken    string `json:"NextToken,omitempty"`
}

type batchError struct {
	SecretID  string `json:"SecretId"`
	ErrorCode string
	Message   string
}

// batchGetSecretValue answers for AWSCURRENT only. A secret that cannot be read
// fails on its own.
func batchGetSecretValue(req *request, in batchGetSecretValueInput) (batchGetSecretValueOutput, *Error) {
	var none batchGetSecretValueOutput
	if err := in.check(); err != nil {
		return none, err
	}
	limit, err := pageSize(in.MaxResults, maxBatch)
	if err != nil {
		return none, err
	}
	if err := req.authorizeOn(req.iamAction(), "*", "*"); err != nil {
		return none, err
	}
	out := batchGetSecretValueOutput{SecretValues: []secretValue{}, Errors: []batchError{}}
	ids := in.SecretIDList
	if len(in.Filters) > 0 {
		if err := req.authorizeOn("secretsmanager:ListSecrets", "*", "*"); err != nil {
			return none, err
		}
		found, next, err := req.search(in.Filters, order{}, in.NextToken, limit, false)
		if err != nil {
			return none, err
		}
		for _, sec := range found {
			ids = append(ids, sec.arn)
		}
		out.NextToken = next
	}
	for _, id := range ids {
		v, err := req.readOne(id)
		if err != nil {
			out.Errors = append(out.Errors, batchError{SecretID: id, ErrorCode: err.Code, Message: err.Message})
			continue
		}
		out.SecretValues = append(out.SecretValues, v)
	}
	return out, nil
}

func (req *request) readOne(id string) (secretValue, *Error) {
	sec, err := req.secretFor("secretsmanager:GetSecretValue", id)
	if err != nil {
		return secretValue{}, err
	}
	if err := sec.checkNotDeleted(); err != nil {
		return secretValue{}, err
	}
	return req.read(sec, "", "")
}

type putSecretValueInput struct {
	SecretID           string   `json:"SecretId"`
	ClientRequestToken string   `json:"ClientRequestToken"`
	RotationToken      string   `json:"RotationToken"`
	SecretBinary       []byte   `json:"SecretBinary"`
	SecretString       *string  `json:"SecretString"`
	VersionStages      []string `json:"VersionStages"`
}

func (in putSecretValueInput) stages() []string {
	if len(in.VersionStages) == 0 {
		return currentOnly
	}
	return in.VersionStages
}

func (in putSecretValueInput) target() target {
	t := secretTarget(in.SecretID)
	t.stages, t.version, t.unsaid = in.stages(), in.ClientRequestToken, len(in.VersionStages) == 0
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
	if in.RotationToken != "" {
		if err := checkLength("rotationToken", in.RotationToken, 36, 256); err != nil {
			return putSecretValueOutput{}, err
		}
	}
	val, err := newPayload(in.SecretString, in.SecretBinary)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	sec, err := req.writable(in.SecretID)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	if err := req.encrypt(sec, sec.kmsKey); err != nil {
		return putSecretValueOutput{}, err
	}
	v, err := sec.put(in.ClientRequestToken, val, in.stages(), req.now)
	if err != nil {
		return putSecretValueOutput{}, err
	}
	return putSecretValueOutput{ARN: sec.arn, Name: sec.name, VersionID: v.id, VersionStages: sec.stages(v.id)}, nil
}
