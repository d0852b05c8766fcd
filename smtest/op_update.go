package smtest

type updateSecretInput struct {
	SecretID           string  `json:"SecretId"`
	ClientRequestToken string  `json:"ClientRequestToken"`
	Description        *string `json:"Description"`
	KmsKeyID           *string `json:"KmsKeyId"`
	SecretBinary       []byte  `json:"SecretBinary"`
	SecretString       *string `json:"SecretString"`
	Type               *string `json:"Type"`
}

func (in updateSecretInput) hasValue() bool {
	return in.SecretString != nil || in.SecretBinary != nil
}

func (in updateSecretInput) target() target {
	t := secretTarget(in.SecretID)
	if in.hasValue() {
		t.stages, t.version, t.unsaid = []string{labelCurrent}, in.ClientRequestToken, true
	}
	return t
}

// updateSecret stores a value as AWSCURRENT, changes what is known of the secret, or
// both. Everything is checked before anything is stored. Of a replica only the key
// can be changed.
func updateSecret(req *request, in updateSecretInput) (secretRef, *Error) {
	if err := checkToken(in.ClientRequestToken, codeInvalidRequest); err != nil {
		return secretRef{}, err
	}
	if in.Description != nil {
		if err := checkLength("description", *in.Description, 0, 2048); err != nil {
			return secretRef{}, err
		}
	}
	if in.KmsKeyID != nil {
		if err := checkLength("kmsKeyId", *in.KmsKeyID, 0, 2048); err != nil {
			return secretRef{}, err
		}
	}
	var val *payload
	if in.hasValue() {
		var err *Error
		if val, err = newPayload(in.SecretString, in.SecretBinary); err != nil {
			return secretRef{}, err
		}
	}
	find := req.writable
	if val == nil && in.Description == nil && in.Type == nil && in.KmsKeyID != nil {
		find = req.live
	}
	sec, err := find(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	key := sec.kmsKey
	if in.KmsKeyID != nil {
		key = normalKey(*in.KmsKeyID)
	}
	if val != nil || key != sec.kmsKey {
		if err := req.encrypt(sec, key); err != nil {
			return secretRef{}, err
		}
	}
	out := secretRef{ARN: sec.arn, Name: sec.name}
	was := sec.kmsKey
	sec.kmsKey = key
	if val != nil {
		v, err := sec.put(in.ClientRequestToken, val, []string{labelCurrent}, req.now)
		if err != nil {
			sec.kmsKey = was
			return secretRef{}, err
		}
		out.VersionID = v.id
	}
	if key != was {
		sec.reencrypt()
	}
	if in.Description != nil {
		sec.description = *in.Description
	}
	if in.Type != nil {
		sec.kind = *in.Type
	}
	if sec.primary == "" { // What a replica shows is when the primary was changed.
		sec.changed = req.now
	}
	return out, nil
}

// reencrypt puts the versions that the service re-encrypts under the secret's key:
// those with a label of its own. The others keep theirs.
func (sec *secret) reencrypt() {
	if sec.primary != "" {
		return
	}
	for _, label := range []string{labelCurrent, labelPending, labelPrevious} {
		if v := sec.versions[sec.labels[label]]; v != nil {
			v.kmsKey = sec.kmsKey
		}
	}
}
