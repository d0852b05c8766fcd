package smtest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// operations is the API: for each operation, what turns a body into a request
// that can be run. An operation is an input type that knows its target, and a
// function that runs with the server's mu held and must not block.
var operations = map[string]func(*request, []byte) *Error{
	"BatchGetSecretValue":          operation(batchGetSecretValue),
	"CancelRotateSecret":           operation(cancelRotateSecret),
	"CreateSecret":                 operation(createSecret),
	"DeleteResourcePolicy":         operation(deleteResourcePolicy),
	"DeleteSecret":                 operation(deleteSecret),
	"DescribeSecret":               operation(describeSecret),
	"GetRandomPassword":            operation(getRandomPassword),
	"GetResourcePolicy":            operation(getResourcePolicy),
	"GetSecretValue":               operation(getSecretValue),
	"ListSecretVersionIds":         operation(listSecretVersionIDs),
	"ListSecrets":                  operation(listSecrets),
	"PutResourcePolicy":            operation(putResourcePolicy),
	"PutSecretValue":               operation(putSecretValue),
	"RemoveRegionsFromReplication": operation(removeRegionsFromReplication),
	"ReplicateSecretToRegions":     operation(replicateSecretToRegions),
	"RestoreSecret":                operation(restoreSecret),
	"RotateSecret":                 operation(rotateSecret),
	"StopReplicationToReplica":     operation(stopReplicationToReplica),
	"TagResource":                  operation(tagResource),
	"UntagResource":                operation(untagResource),
	"UpdateSecret":                 operation(updateSecret),
	"UpdateSecretVersionStage":     operation(updateSecretVersionStage),
	"ValidateResourcePolicy":       operation(validateResourcePolicy),
}

// mustKnow panics if a test names an operation that the server does not have.
func mustKnow(operation string) {
	if _, ok := operations[operation]; !ok && operation != "" {
		panic("smtest: there is no operation " + strconv.Quote(operation))
	}
}

type input interface{ target() target }

func operation[In input, Out any](run func(*request, In) (Out, *Error)) func(*request, []byte) *Error {
	return func(req *request, body []byte) *Error {
		var in In
		if err := decodeInput(body, &in); err != nil {
			return err
		}
		req.target = in.target()
		req.run = func(req *request) (any, *Error) { return run(req, in) }
		return nil
	}
}

// decodeInput reads a JSON object into the struct that in points to. Member names
// count with their case, as the service takes them; encoding/json alone would let
// others pass. Members that the struct does not have are ignored.
func decodeInput(body []byte, in any) *Error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return &Error{Code: codeSerialization}
	}
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		raw, ok := members[name]
		if !ok || bytes.Equal(raw, []byte("null")) {
			continue
		}
		if err := json.Unmarshal(raw, v.Field(i).Addr().Interface()); err != nil {
			// The text of err may quote the input, which may be a secret.
			return &Error{Code: codeSerialization, Message: "The value of " + name + " has the wrong type."}
		}
	}
	return nil
}

// secretTarget is the target of an operation on one secret as a whole.
func secretTarget(id string) target {
	if id == "" {
		return target{}
	}
	return target{ids: []string{id}}
}

// An epoch is a time in the protocol: seconds since 1970, with milliseconds. A
// zero one is left out.
type epoch struct{ time.Time }

// MarshalJSON writes the number.
func (e epoch) MarshalJSON() ([]byte, error) {
	ms := e.UnixMilli()
	b := strconv.AppendInt(nil, ms/1000, 10)
	if ms%1000 == 0 {
		return append(b, ".0"...), nil
	}
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', 3, 64), nil
}

// checkToken checks a ClientRequestToken. The code for a missing one is not the
// same in all operations.
func checkToken(token, missing string) *Error {
	if token == "" {
		return &Error{
			Code:    missing,
			Message: "You must provide a ClientRequestToken value. We recommend a UUID-type value.",
		}
	}
	if len(token) < 32 || len(token) > 64 {
		return invalidParameter("ClientRequestToken must be 32-64 characters long.")
	}
	return nil
}

func checkStages(stages []string) *Error {
	if len(stages) > 20 {
		return constraint("versionStages", "Member must have length less than or equal to 20")
	}
	for _, stage := range stages {
		if err := checkLength("versionStages", stage, 1, 256); err != nil {
			return err
		}
	}
	return nil
}
