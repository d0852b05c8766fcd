package smtest

import "time"

type createSecretInput struct {
	Name               string  `json:"Name"`
	ClientRequestToken string  `json:"ClientRequestToken"`
	Description        string  `json:"Description"`
	KmsKeyID           string  `json:"KmsKeyId"`
	SecretBinary       []byte  `json:"SecretBinary"`
	SecretString       *string `json:"SecretString"`
	Tags               []tag   `json:"Tags"`
}

func (in createSecretInput) target() target {
	return secretTarget(in.Name)
}

// A secretRef is the answer of the operations that say only which secret and
// which version they changed.
type secretRef struct {
	ARN       string
	Name      string
	VersionID string `json:"VersionId,omitempty"`
}

func (r secretRef) versionID() string { return r.VersionID }

func createSecret(req *request, in createSecretInput) (secretRef, *Error) {
	if in.Name == "" {
		return secretRef{}, constraint("name", "Member must not be null")
	}
	if err := checkName(in.Name); err != nil {
		return secretRef{}, err
	}
	if err := checkToken(in.ClientRequestToken, codeInvalidRequest); err != nil {
		return secretRef{}, err
	}
	if err := checkLength("description", in.Description, 0, 2048); err != nil {
		return secretRef{}, err
	}
	var val *payload
	if in.SecretString != nil || in.SecretBinary != nil {
		var err *Error
		if val, err = newPayload(in.SecretString, in.SecretBinary); err != nil {
			return secretRef{}, err
		}
	}
	st, now := req.store, req.now
	if sec := st.named(in.Name, now); sec != nil {
		if sec.deleted() {
			return secretRef{}, invalidRequest(
				"You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		// The same request again, after its answer was lost.
		if v := sec.versions[in.ClientRequestToken]; val != nil && v != nil && v.value.equal(val) {
			return secretRef{ARN: sec.arn, Name: sec.name, VersionID: v.id}, nil
		}
		return secretRef{}, exists("The operation failed because the secret %s already exists.", in.Name)
	}
	sec := st.add(in.Name, now)
	sec.description, sec.kmsKey, sec.tags = in.Description, in.KmsKeyID, in.Tags
	out := secretRef{ARN: sec.arn, Name: sec.name}
	if val != nil {
		v, err := sec.put(in.ClientRequestToken, val, []string{labelCurrent}, now)
		if err != nil {
			return secretRef{}, err
		}
		out.VersionID = v.id
	}
	return out, nil
}

type secretIDInput struct {
	SecretID string `json:"SecretId"`
}

func (in secretIDInput) target() target {
	return secretTarget(in.SecretID)
}

type describeSecretOutput struct {
	ARN                string
	Name               string
	CreatedDate        epoch
	LastChangedDate    epoch
	LastAccessedDate   epoch               `json:"LastAccessedDate,omitzero"`
	LastRotatedDate    epoch               `json:"LastRotatedDate,omitzero"`
	NextRotationDate   epoch               `json:"NextRotationDate,omitzero"`
	DeletedDate        epoch               `json:"DeletedDate,omitzero"`
	Description        string              `json:"Description,omitempty"`
	KmsKeyID           string              `json:"KmsKeyId,omitempty"`
	RotationEnabled    *bool               `json:"RotationEnabled,omitempty"`
	RotationLambdaARN  string              `json:"RotationLambdaARN,omitempty"`
	RotationRules      *rotationRules      `json:"RotationRules,omitempty"`
	Tags               []tag               `json:"Tags,omitempty"`
	VersionIDsToStages map[string][]string `json:"VersionIdsToStages,omitempty"`
	OwningService      string              `json:"OwningService,omitempty"`
	PrimaryRegion      string              `json:"PrimaryRegion,omitempty"`

	ExternalSecretRotationRoleARN  string         `json:"ExternalSecretRotationRoleArn,omitempty"`
	ExternalSecretRotationMetadata []metadataItem `json:",omitempty"`
}

func describeSecret(req *request, in secretIDInput) (describeSecretOutput, *Error) {
	sec, err := req.secret(in.SecretID)
	if err != nil {
		return describeSecretOutput{}, err
	}
	return describeSecretOutput{
		ARN:                sec.arn,
		Name:               sec.name,
		CreatedDate:        epoch{sec.created},
		LastChangedDate:    epoch{sec.changed},
		LastAccessedDate:   epoch{sec.accessed},
		LastRotatedDate:    epoch{sec.rotation.rotated},
		NextRotationDate:   epoch{sec.rotation.next},
		DeletedDate:        epoch{sec.deletion},
		Description:        sec.description,
		KmsKeyID:           sec.kmsKey,
		RotationEnabled:    sec.rotation.enabled,
		RotationLambdaARN:  sec.rotation.function,
		RotationRules:      sec.rotation.rules,
		Tags:               sec.tags,
		VersionIDsToStages: sec.stagesByVersion(),
		OwningService:      sec.owner,
		PrimaryRegion:      sec.primary,

		ExternalSecretRotationRoleARN:  sec.rotation.externalRole,
		ExternalSecretRotationMetadata: sec.rotation.externalMetadata,
	}, nil
}

type deleteSecretInput struct {
	SecretID                   string `json:"SecretId"`
	RecoveryWindowInDays       *int   `json:"RecoveryWindowInDays"`
	ForceDeleteWithoutRecovery bool   `json:"ForceDeleteWithoutRecovery"`
}

func (in deleteSecretInput) target() target {
	return secretTarget(in.SecretID)
}

type deleteSecretOutput struct {
	ARN          string `json:"ARN,omitempty"`
	Name         string
	DeletionDate epoch
}

func deleteSecret(req *request, in deleteSecretInput) (deleteSecretOutput, *Error) {
	days := 30
	if in.RecoveryWindowInDays != nil {
		days = *in.RecoveryWindowInDays
		if in.ForceDeleteWithoutRecovery {
			return deleteSecretOutput{}, invalidParameter(
				"You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		}
		if days < 7 || days > 30 {
			return deleteSecretOutput{}, invalidParameter(
				"The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
		}
	}
	now := req.now
	sec, err := req.secret(in.SecretID)
	switch {
	case err != nil && err.Code == codeNotFound && in.ForceDeleteWithoutRecovery:
		return deleteSecretOutput{Name: in.SecretID, DeletionDate: epoch{now}}, nil
	case err != nil:
		return deleteSecretOutput{}, err
	case in.ForceDeleteWithoutRecovery:
		sec.store.drop(sec)
		return deleteSecretOutput{ARN: sec.arn, Name: sec.name, DeletionDate: epoch{now}}, nil
	case sec.deleted():
		return deleteSecretOutput{}, invalidRequest(
			"You tried to perform the operation on a secret that's currently marked deleted.")
	}
	sec.deletion = now.Add(time.Duration(days) * 24 * time.Hour)
	return deleteSecretOutput{ARN: sec.arn, Name: sec.name, DeletionDate: epoch{sec.deletion}}, nil
}
