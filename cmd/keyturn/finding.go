package main

// Status is how a finding counts.
type Status string

// The statuses, by which the exit status is decided.
const (
	OK      Status = "ok"
	Note    Status = "note"    // good to know, and nothing is wrong
	Unknown Status = "unknown" // it could not be checked
	Problem Status = "problem"
)

// The checks, in the order of the report.
const (
	checkIdentity = "identity"
	checkSecret   = "secret"
	checkAccess   = "access"
	checkVersion  = "version"
	checkValue    = "value"
	checkRotation = "rotation"
	checkLogin    = "login"
	checkStuck    = "stuck"
)

// A Finding is what one check has found. Its JSON is documented at the package.
type Finding struct {
	Check   string `json:"check"`
	Status  Status `json:"status"`
	Version string `json:"version,omitempty"` // the version's id
	Server  string `json:"server,omitempty"`  // host:port
	Detail  string `json:"detail"`

	// Fix says what to do. A line that begins with two spaces is a command.
	Fix string `json:"fix,omitempty"`
}

// worst returns the status of a whole report.
func worst(findings []Finding) Status {
	status := OK
	for _, f := range findings {
		switch f.Status {
		case Problem:
			return Problem
		case Unknown:
			status = Unknown
		case OK, Note:
		}
	}
	return status
}
