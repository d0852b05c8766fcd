package smtest

import (
	"maps"
	"slices"
	"time"
)

// A replication is one replica as its primary knows it. The replica shares the
// primary's content, so that it lags behind nothing; a Fault in its Region does that.
type replication struct {
	region string
	kmsKey string
	failed string  // why there is no replica; empty if there is one
	sec    *secret // the replica; nil if it failed
}

// replicate makes a replica in another Region, unless a secret there has its name.
// With force that gives way. A replica that there is already stays.
func (s *Server) replicateLocked(sec *secret, region, kmsKey string, force bool, now time.Time) {
	i := slices.IndexFunc(sec.replicas, func(r *replication) bool { return r.region == region })
	var rep *replication
	switch {
	case i < 0:
		rep = &replication{region: region}
		sec.replicas = append(sec.replicas, rep)
	case sec.replicas[i].sec != nil:
		return
	default:
		rep = sec.replicas[i]
	}
	rep.kmsKey, rep.failed = normalKey(kmsKey), ""
	st := s.storeLocked(sec.store.account, region)
	if other := st.named(sec.name, now); other != nil {
		if !force || other.primary != "" || len(other.replicas) > 0 {
			rep.failed = "Replication failed: Secret name " + sec.name + " already exists in region " + region + "."
			return
		}
		st.drop(other)
	}
	rep.sec = &secret{
		content: sec.content,
		store:   st,
		name:    sec.name,
		arn:     st.arn(sec.name, sec.arn[len(sec.arn)-6:]),
		kmsKey:  rep.kmsKey,
		created: now,
		owner:   sec.owner,
		primary: sec.store.region,
	}
	st.enter(rep.sec)
}

// unreplicate removes the replica of a Region, if there is one.
func (sec *secret) unreplicate(region string) {
	sec.replicas = slices.DeleteFunc(sec.replicas, func(r *replication) bool {
		if r.region == region && r.sec != nil {
			r.sec.store.drop(r.sec)
		}
		return r.region == region
	})
}

// promoteLocked makes a replica a secret of its own.
func (s *Server) promoteLocked(sec *secret) {
	if primary := s.storeLocked(sec.store.account, sec.primary).byName[sec.name]; primary != nil {
		s.journal.sawLocked(primary)
		primary.replicas = slices.DeleteFunc(primary.replicas, func(r *replication) bool { return r.sec == sec })
	}
	sec.primary = ""
	sec.content = sec.copyContent()
	for _, v := range sec.versions {
		v.kmsKey = sec.kmsKey
	}
}

func (c *content) copyContent() *content {
	out := *c
	out.tags = slices.Clone(c.tags)
	out.history = nil
	out.labels = maps.Clone(c.labels)
	out.versions = make(map[string]*version, len(c.versions))
	for id, v := range c.versions {
		own := *v
		out.versions[id] = &own
	}
	return &out
}

// primaryRegion is the Region that holds the primary of a secret which is in several
// Regions; empty if it is not.
func (sec *secret) primaryRegion() string {
	if sec.primary == "" && len(sec.replicas) > 0 {
		return sec.store.region
	}
	return sec.primary
}

type replicationStatus struct {
	Region           string
	KmsKeyID         string `json:"KmsKeyId"`
	Status           string
	StatusMessage    string `json:"StatusMessage,omitempty"`
	LastAccessedDate epoch  `json:"LastAccessedDate,omitzero"`
}

// replicationStatus tells of each replica, in the order in which they were made.
// The service replicates behind the call that asks for it, which therefore answers
// that it is in progress, even where it is bound to fail; begun says which these are.
func (sec *secret) replicationStatus(begun ...string) []replicationStatus {
	var out []replicationStatus
	for _, r := range sec.replicas {
		status := replicationStatus{Region: r.region, KmsKeyID: r.kmsKey, Status: "InSync", StatusMessage: "Replication succeeded"}
		if status.KmsKeyID == "" {
			status.KmsKeyID = defaultAlias
		}
		switch {
		case slices.Contains(begun, r.region):
			status.Status, status.StatusMessage = "InProgress", ""
		case r.failed != "":
			status.Status, status.StatusMessage = "Failed", r.failed
		default:
			status.LastAccessedDate = epoch{r.sec.accessed}
		}
		out = append(out, status)
	}
	return out
}
