package smtest

import "strconv"

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
// order. NextToken is the number of versions listed so far.
func listSecretVersionIDs(req *request, in listSecretVersionIDsInput) (listSecretVersionIDsOutput, *Error) {
	limit := 100
	if in.MaxResults != nil {
		if limit = *in.MaxResults; limit < 1 || limit > 100 {
			return listSecretVersionIDsOutput{}, constraint("maxResults", "Member must be between 1 and 100")
		}
	}
	sec, err := req.secret(in.SecretID)
	if err != nil {
		return listSecretVersionIDsOutput{}, err
	}
	out := listSecretVersionIDsOutput{ARN: sec.arn, Name: sec.name, Versions: []listedVersion{}}
	for _, v := range sec.sorted() {
		stages := sec.stages(v.id)
		if stages == nil && !in.IncludeDeprecated {
			continue
		}
		key := sec.kmsKey
		if key == "" {
			key = "DefaultEncryptionKey"
		}
		out.Versions = append(out.Versions, listedVersion{
			VersionID: v.id, VersionStages: stages, CreatedDate: epoch{v.created},
			LastAccessedDate: epoch{v.accessed}, KmsKeyIDs: []string{key},
		})
	}
	first := 0
	if in.NextToken != "" {
		n, err := strconv.Atoi(in.NextToken)
		if err != nil || n < 0 || n > len(out.Versions) {
			return listSecretVersionIDsOutput{}, &Error{Code: codeInvalidToken, Message: "Invalid NextToken."}
		}
		first = n
	}
	out.Versions = out.Versions[first:]
	if len(out.Versions) > limit {
		out.Versions = out.Versions[:limit]
		out.NextToken = strconv.Itoa(first + limit)
	}
	return out, nil
}
