package smtest

import (
	"strings"
	"time"
)

type deleteSecretInput struct {
	SecretID                   string `json:"SecretId"`
	RecoveryWindowInDays       *int   `json:"RecoveryWindowInDays"`
	ForceDeleteWithoutRecovery bool   `json:"ForceDeleteWithoutRecovery"`
}

func (in deleteSecretInput) target() target {
	return secretTarget(in.SecretID)
}

type deleteSecretOutput struct {
	ARN          string
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
	sec, err := req.secret(in.SecretID)
	if err != nil {
		if err.Code == codeNotFound && in.ForceDeleteWithoutRecovery {
			return req.deleteNothing(in.SecretID), nil
		}
		return deleteSecretOutput{}, err
	}
	if err := sec.checkPrimary(); err != nil {
		return deleteSecretOutput{}, err
	}
	if err := sec.checkUnmanaged(); err != nil {
		return deleteSecretOutput{}, err
	}
	if regions := sec.replicaRegions(); len(regions) > 0 {
		return deleteSecretOutput{}, invalidParameter("You can't delete secret %s that still has replica regions [%s]",
			sec.arn, strings.Join(regions, ", "))
	}
	out := deleteSecretOutput{ARN: sec.arn, Name: sec.name, DeletionDate: epoch{req.now}}
	switch {
	case in.ForceDeleteWithoutRecovery:
		sec.store.drop(sec)
		sec.store.linger(sec.name, req.now)
	case sec.deleted():
		return deleteSecretOutput{}, invalidRequest(
			"You tried to perform the operation on a secret that's currently marked deleted.")
	default:
		sec.mark(req.now.Add(time.Duration(days)*24*time.Hour), req.now)
		out.DeletionDate = epoch{sec.deletion}
	}
	return out, nil
}

// deleteNothing answers a forced delete of a secret that does not exist as if it had,
// so that such a call may be repeated.
func (req *request) deleteNothing(id string) deleteSecretOutput {
	out := deleteSecretOutput{ARN: id, Name: id, DeletionDate: epoch{req.now}}
	if a, ok := parseARN(id); ok {
		out.Name = a.name()
	} else {
		out.ARN = req.store.arn(id, newSuffix())
	}
	return out
}

func (sec *secret) replicaRegions() []string {
	var out []string
	for _, r := range sec.replicas {
		if r.sec != nil {
			out = append(out, r.region)
		}
	}
	return out
}

// restoreSecret is no error on a secret that is not marked for deletion.
func restoreSecret(req *request, in secretIDInput) (secretRef, *Error) {
	sec, err := req.secret(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	if err := sec.checkPrimary(); err != nil {
		return secretRef{}, err
	}
	sec.mark(time.Time{}, req.now)
	return secretRef{ARN: sec.arn, Name: sec.name}, nil
}
