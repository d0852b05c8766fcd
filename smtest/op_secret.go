package smtest

type createSecretInput struct {
	Name                        string          `json:"Name"`
	ClientRequestToken          string          `json:"ClientRequestToken"`
	Description                 string          `json:"Description"`
	KmsKeyID                    string          `json:"KmsKeyId"`
	SecretBinary                []byte          `json:"SecretBinary"`
	SecretString                *string         `json:"SecretString"`
	Tags                        []tag           `json:"Tags"`
	Type                        string          `json:"Type"`
	AddReplicaRegions           []replicaRegion `json:"AddReplicaRegions"`
	ForceOverwriteReplicaSecret bool            `json:"ForceOverwriteReplicaSecret"`
}

func (in createSecretInput) target() target {
	return secretTarget(in.Name)
}

func (in createSecretInput) check(home string) *Error {
	if in.Name == "" {
		return constraint("name", "Member must not be null")
	}
	if err := checkName(in.Name); err != nil {
		return err
	}
	if err := checkToken(in.ClientRequestToken, codeInvalidRequest); err != nil {
		return err
	}
	if err := checkLength("description", in.Description, 0, 2048); err != nil {
		return err
	}
	if err := checkLength("kmsKeyId", in.KmsKeyID, 0, 2048); err != nil {
		return err
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	return checkReplicas(in.AddReplicaRegions, home)
}

// authorize asks the caller's policies for all that the request does. The random
// suffix is not known yet: a policy must not depend on it, but by ??????.
func (in createSecretInput) authorize(req *request) *Error {
	actions := []string{req.iamAction()}
	if len(in.Tags) > 0 {
		actions = append(actions, "secretsmanager:TagResource")
	}
	if len(in.AddReplicaRegions) > 0 {
		actions = append(actions, "secretsmanager:ReplicateSecretToRegions")
	}
	for _, action := range actions {
		if err := req.authorizeOn(action, req.store.arn(in.Name, newSuffix()), in.Name); err != nil {
			return err
		}
	}
	return nil
}

// A secretRef is the answer of the operations that say only which secret and
// which version they changed.
type secretRef struct {
	ARN       string
	Name      string
	VersionID string `json:"VersionId,omitempty"`
}

func (r secretRef) versionID() string { return r.VersionID }

type createSecretOutput struct {
	secretRef

	ReplicationStatus []replicationStatus `json:"ReplicationStatus,omitempty"`
}

func createSecret(req *request, in createSecretInput) (createSecretOutput, *Error) {
	var none createSecretOutput
	st := req.store
	if err := in.check(st.region); err != nil {
		return none, err
	}
	var val *payload
	if in.SecretString != nil || in.SecretBinary != nil {
		var err *Error
		if val, err = newPayload(in.SecretString, in.SecretBinary); err != nil {
			return none, err
		}
	}
	if err := in.authorize(req); err != nil {
		return none, err
	}
	if sec := st.named(in.Name, req.now); sec != nil {
		return sec.createAgain(in.ClientRequestToken, val)
	}
	if st.lingers(in.Name, req.now) {
		return none, errNameTaken()
	}
	sec := st.newSecret(in.Name, req.now)
	sec.description, sec.kind, sec.kmsKey = in.Description, in.Type, normalKey(in.KmsKeyID)
	if len(in.Tags) > 0 {
		sec.tags = in.Tags
	}
	out := createSecretOutput{secretRef: secretRef{ARN: sec.arn, Name: sec.name}}
	if val != nil {
		if err := req.encrypt(sec, sec.kmsKey); err != nil {
			return none, err
		}
		v, err := sec.put(in.ClientRequestToken, val, []string{labelCurrent}, req.now)
		if err != nil {
			return none, err
		}
		out.VersionID = v.id
	}
	st.enter(sec)
	begun := req.replicate(sec, in.AddReplicaRegions, in.ForceOverwriteReplicaSecret)
	out.ReplicationStatus = sec.replicationStatus(begun...)
	return out, nil
}

func errNameTaken() *Error {
	return invalidRequest("You can't create this secret because a secret with this name is already scheduled for deletion.")
}

// createAgain answers CreateSecret for a name that is taken. The same request again,
// after its answer was lost, is no error.
func (sec *secret) createAgain(token string, val *payload) (createSecretOutput, *Error) {
	var none createSecretOutput
	v := sec.versions[token]
	switch {
	case sec.deleted():
		return none, errNameTaken()
	case val == nil || v == nil || v.value == nil:
		return none, exists("The operation failed because the secret %s already exists.", sec.name)
	case !v.value.equal(val):
		return none, sec.tokenUsed(token)
	}
	return createSecretOutput{
		secretRef:         secretRef{ARN: sec.arn, Name: sec.name, VersionID: v.id},
		ReplicationStatus: sec.replicationStatus(),
	}, nil
}

type secretIDInput struct {
	SecretID string `json:"SecretId"`
}

func (in secretIDInput) target() target {
	return secretTarget(in.SecretID)
}

// secretDetails is what DescribeSecret and ListSecrets have in common.
type secretDetails struct {
	ARN                            string
	Name                           string
	Type                           string `json:"Type,omitempty"`
	Description                    string `json:"Description,omitempty"`
	KmsKeyID                       string `json:"KmsKeyId,omitempty"`
	CreatedDate                    epoch
	LastChangedDate                epoch
	LastAccessedDate               epoch          `json:"LastAccessedDate,omitzero"`
	DeletedDate                    epoch          `json:"DeletedDate,omitzero"`
	RotationEnabled                *bool          `json:"RotationEnabled,omitempty"`
	RotationLambdaARN              string         `json:"RotationLambdaARN,omitempty"`
	RotationRules                  *rotationRules `json:"RotationRules,omitempty"`
	LastRotatedDate                epoch          `json:"LastRotatedDate,omitzero"`
	NextRotationDate               epoch          `json:"NextRotationDate,omitzero"`
	ExternalSecretRotationRoleARN  string         `json:"ExternalSecretRotationRoleArn,omitempty"`
	ExternalSecretRotationMetadata []metadataItem `json:"ExternalSecretRotationMetadata,omitempty"`
	Tags                           []tag          `json:"Tags,omitzero"`
	OwningService                  string         `json:"OwningService,omitempty"`
	PrimaryRegion                  string         `json:"PrimaryRegion,omitempty"`
}

func (sec *secret) details() secretDetails {
	return secretDetails{
		ARN:                            sec.arn,
		Name:                           sec.name,
		Type:                           sec.kind,
		Description:                    sec.description,
		KmsKeyID:                       sec.kmsKey,
		CreatedDate:                    epoch{sec.created},
		LastChangedDate:                epoch{sec.changed},
		LastAccessedDate:               epoch{sec.accessed},
		DeletedDate:                    epoch{sec.deletion},
		RotationEnabled:                sec.rotation.enabled,
		RotationLambdaARN:              sec.rotation.function,
		RotationRules:                  sec.rotationRules(),
		LastRotatedDate:                epoch{sec.lastRotated()},
		NextRotationDate:               epoch{sec.nextRotation()},
		ExternalSecretRotationRoleARN:  sec.rotation.externalRole,
		ExternalSecretRotationMetadata: sec.rotation.externalMetadata,
		Tags:                           sec.tags,
		OwningService:                  sec.owner,
		PrimaryRegion:                  sec.primaryRegion(),
	}
}

type describeSecretOutput struct {
	secretDetails

	VersionIDsToStages map[string][]string `json:"VersionIdsToStages,omitempty"`
	ReplicationStatus  []replicationStatus `json:"ReplicationStatus,omitempty"`
}

func describeSecret(req *request, in secretIDInput) (describeSecretOutput, *Error) {
	sec, err := req.secret(in.SecretID)
	if err != nil {
		return describeSecretOutput{}, err
	}
	return describeSecretOutput{
		secretDetails:      sec.details(),
		VersionIDsToStages: sec.stagesByVersion(),
		ReplicationStatus:  sec.replicationStatus(),
	}, nil
}
