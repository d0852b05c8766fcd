package smtest

import "cmp"

type updateSecretVersionStageInput struct {
	SecretID            string `json:"SecretId"`
	VersionStage        string `json:"VersionStage"`
	RemoveFromVersionID string `json:"RemoveFromVersionId"`
	MoveToVersionID     string `json:"MoveToVersionId"`
}

func (in updateSecretVersionStageInput) target() target {
	t := secretTarget(in.SecretID)
	t.version = in.MoveToVersionID
	if in.VersionStage != "" {
		t.stages = []string{in.VersionStage}
	}
	return t
}

func updateSecretVersionStage(req *request, in updateSecretVersionStageInput) (secretRef, *Error) {
	if in.VersionStage == "" {
		return secretRef{}, constraint("versionStage", "Member must not be null")
	}
	if err := checkStages([]string{in.VersionStage}); err != nil {
		return secretRef{}, err
	}
	sec, err := req.writable(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	if err := sec.moveLabel(in.VersionStage, in.RemoveFromVersionID, in.MoveToVersionID); err != nil {
		return secretRef{}, err
	}
	sec.changed = req.now
	return secretRef{ARN: sec.arn, Name: sec.name}, nil
}

type listSecretVersionIDsInput struct {
	SecretID          string `json:"SecretId"`
	IncludeDeprecated bool   `json:"IncludeDeprecated"`
	MaxResults        *int   `json:"MaxResults"`
	NextToken         string `json:"NextToken"`
}

func (in listSecretVersionIDsInput) target() target {
	return secretTarget(in.SecretID)
}

type listSecretVersionIDsOutput struct {
	ARN       string
	Name      string
	Versions  []listedVersion
	NextToken string `json:"NextToken,omitempty"`
}

type listedVersion struct {
	VersionID        string   `json:"VersionId"`
	VersionStages    []string `json:"VersionStages,omitempty"`
	CreatedDate      epoch
	LastAccessedDate epoch    `json:"LastAccessedDate,omitzero"`
	KmsKeyIDs        []string `json:"KmsKeyIds"`
}

// listSecretVersionIDs lists the oldest version first; the service promises no
// order.
func listSecretVersionIDs(req *request, in listSecretVersionIDsInput) (listSecretVersionIDsOutput, *Error) {
	var none listSecretVersionIDsOutput
	limit, err := pageSize(in.MaxResults, 100)
	if err != nil {
		return none, err
	}
	sec, err := req.secret(in.SecretID)
	if err != nil {
		return none, err
	}
	list := "versions/" + sec.arn
	after, err := parseToken(in.NextToken, list)
	if err != nil {
		return none, err
	}
	out := listSecretVersionIDsOutput{ARN: sec.arn, Name: sec.name, Versions: []listedVersion{}}
	var last *version
	for _, v := range sec.sorted() {
		stages := sec.stages(v.id)
		if stages == nil && !in.IncludeDeprecated {
			continue
		}
		if after != nil && cmp.Or(v.created.Compare(after.Time), cmp.Compare(v.id, after.Text)) <= 0 {
			continue
		}
		if len(out.Versions) == limit {
			out.NextToken = cursor{List: list, Time: last.created, Text: last.id}.token()
			break
		}
		out.Versions = append(out.Versions, listedVersion{
			VersionID: v.id, VersionStages: stages, CreatedDate: epoch{v.created},
			LastAccessedDate: epoch{v.accessed}, KmsKeyIDs: []string{cmp.Or(sec.keyOf(v), "DefaultEncryptionKey")},
		})
		last = v
	}
	return out, nil
}
