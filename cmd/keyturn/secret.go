package main

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// secretFindings says what the secret is: of it all that keeps it from being read or
// rotated.
func secretFindings(s *snapshot, cmd commands) []Finding {
	if s.described == nil {
		return nil // the reason is among the failures
	}
	d := s.described
	about := []string{aws.ToString(d.ARN), "key " + s.key()}
	status := OK
	if service := s.managedBy(); service != "" {
		status, about = Note, append(about, fmt.Sprintf("managed by the service %q, which rotates it", service))
	}
	if home := s.primaryRegion(); home != s.region {
		status, about = Note, append(about, "a replica; it is written and rotated in "+home)
	}
	if s.deleted() {
		return []Finding{{
			Check: checkSecret, Status: Problem,
			Detail: strings.Join(about, "; ") + "; marked for deletion (" + date(*d.DeletedDate) + "), nobody can read it",
			Fix:    "restore it, if it was not meant to go\n" + cmd.secretsmanager("restore-secret"),
		}}
	}
	found := []Finding{{Check: checkSecret, Status: status, Detail: strings.Join(about, "; ")}}
	for _, r := range d.ReplicationStatus {
		if r.Status == types.StatusTypeFailed {
			found = append(found, Finding{
				Check: checkSecret, Status: Problem,
				Detail: fmt.Sprintf("replication to %s has failed: %s", aws.ToString(r.Region), aws.ToString(r.StatusMessage)),
				Fix: "see to what the message says; a secret of that name over there is replaced by\n" +
					cmd.secretsmanager("replicate-secret-to-regions", "--add-replica-regions", "Region="+aws.ToString(r.Region), "--force-overwrite-replica-secret"),
			})
		}
	}
	return found
}

// accessFindings says what was denied, or failed.
func accessFindings(s *snapshot) []Finding {
	if len(s.failures) == 0 {
		if s.deleted() {
			return nil
		}
		allowed := "DescribeSecret and ListSecretVersionIds are allowed"
		if current := s.labelled[stageCurrent]; current != nil && current.read == wasRead {
			allowed = "DescribeSecret, ListSecretVersionIds and GetSecretValue are allowed, and so is decrypting"
		}
		return []Finding{{Check: checkAccess, Status: OK, Detail: allowed}}
	}
	found := make([]Finding, 0, len(s.failures))
	for _, f := range s.failures {
		found = append(found, f.finding(f.operation, s.key()))
	}
	return found
}
