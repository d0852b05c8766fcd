package smtest

import "slices"

type replicaRegion struct {
	Region   string
	KmsKeyID string `json:"KmsKeyId"`
}

// checkReplicas checks the Regions to replicate to from home.
func checkReplicas(regions []replicaRegion, home string) *Error {
	for _, r := range regions {
		if !isRegion(r.Region) || r.Region == home || partition(r.Region) != partition(home) {
			return invalidParameter("Invalid replica region.")
		}
		if err := checkLength("kmsKeyId", r.KmsKeyID, 0, 2048); err != nil {
			return err
		}
	}
	return nil
}

// replicate makes the replicas that a request asks for and returns their Regions.
func (req *request) replicate(sec *secret, regions []replicaRegion, force bool) []string {
	begun := make([]string, 0, len(regions))
	for _, r := range regions {
		if !slices.ContainsFunc(sec.replicas, func(have *replication) bool { return have.region == r.Region && have.sec != nil }) {
			begun = append(begun, r.Region)
		}
		req.server.replicateLocked(sec, r.Region, r.KmsKeyID, force, req.now)
	}
	return begun
}

type replicationOutput struct {
	ARN               string
	ReplicationStatus []replicationStatus `json:"ReplicationStatus,omitempty"`
}

type replicateSecretToRegionsInput struct {
	SecretID                    string          `json:"SecretId"`
	AddReplicaRegions           []replicaRegion `json:"AddReplicaRegions"`
	ForceOverwriteReplicaSecret bool            `json:"ForceOverwriteReplicaSecret"`
}

func (in replicateSecretToRegionsInput) target() target {
	return secretTarget(in.SecretID)
}

func replicateSecretToRegions(req *request, in replicateSecretToRegionsInput) (replicationOutput, *Error) {
	if len(in.AddReplicaRegions) == 0 {
		return replicationOutput{}, constraint("addReplicaRegions", "Member must have length greater than or equal to 1")
	}
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return replicationOutput{}, err
	}
	if err := checkReplicas(in.AddReplicaRegions, sec.store.region); err != nil {
		return replicationOutput{}, err
	}
	begun := req.replicate(sec, in.AddReplicaRegions, in.ForceOverwriteReplicaSecret)
	return replicationOutput{ARN: sec.arn, ReplicationStatus: sec.replicationStatus(begun...)}, nil
}

type removeRegionsFromReplicationInput struct {
	SecretID             string   `json:"SecretId"`
	RemoveReplicaRegions []string `json:"RemoveReplicaRegions"`
}

func (in removeRegionsFromReplicationInput) target() target {
	return secretTarget(in.SecretID)
}

// removeRegionsFromReplication deletes replicas. That a Region has none is no error.
func removeRegionsFromReplication(req *request, in removeRegionsFromReplicationInput) (replicationOutput, *Error) {
	if len(in.RemoveReplicaRegions) == 0 {
		return replicationOutput{}, constraint("removeReplicaRegions", "Member must have length greater than or equal to 1")
	}
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return replicationOutput{}, err
	}
	for _, region := range in.RemoveReplicaRegions {
		if !isRegion(region) || region == sec.store.region {
			return replicationOutput{}, invalidParameter("Invalid replica region.")
		}
	}
	for _, region := range in.RemoveReplicaRegions {
		sec.unreplicate(region)
	}
	return replicationOutput{ARN: sec.arn, ReplicationStatus: sec.replicationStatus()}, nil
}

type arnOutput struct {
	ARN string
}

// stopReplicationToReplica is called in the replica's Region.
func stopReplicationToReplica(req *request, in secretIDInput) (arnOutput, *Error) {
	sec, err := req.live(in.SecretID)
	if err != nil {
		return arnOutput{}, err
	}
	if sec.primary == "" {
		return arnOutput{}, invalidParameter("Operation not permitted on a primary secret. Call must be made in the replica secret's region.")
	}
	req.server.promoteLocked(sec)
	return arnOutput{ARN: sec.arn}, nil
}
