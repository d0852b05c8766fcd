package smtest

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// newID returns a random UUID, as version ids and request ids are.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // It never fails.
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newAccessKeyID returns an access key id as IAM makes them.
func newAccessKeyID() string {
	b := []byte("AKIA0000000000000000")
	for i := 4; i < len(b); i++ {
		b[i] = pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
	}
	return string(b)
}

// newSuffix returns the six random characters at the end of a secret's ARN.
func newSuffix() string {
	b := make([]byte, 6)
	for i := range b {
		b[i] = pick(alphanumeric)
	}
	return string(b)
}

// pick returns one byte of set at random, each with the same probability.
func pick(set string) byte {
	return set[randomBelow(len(set))]
}

// randomBelow returns a random number in [0, n), n at most 65536. Numbers that
// would favour the low results are drawn again.
func randomBelow(n int) int {
	limit := 1 << 16 / n * n
	for {
		var b [2]byte
		rand.Read(b[:]) // It never fails.
		if x := int(b[0])<<8 | int(b[1]); x < limit {
			return x % n
		}
	}
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!-]+$`)

const invalidName = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"

func checkName(name string) *Error {
	if err := checkLength("name", name, 1, 512); err != nil {
		return err
	}
	if !nameRE.MatchString(name) {
		return validation(invalidName)
	}
	return nil
}

// checkLength is the service's check of a member against its model, which comes
// before anything else. Lengths there are of characters, not bytes.
func checkLength(member, value string, low, high int) *Error {
	switch n := utf8.RuneCountInString(value); {
	case n < low:
		return constraint(member, "Member must have length greater than or equal to "+strconv.Itoa(low))
	case n > high:
		return constraint(member, "Member must have length less than or equal to "+strconv.Itoa(high))
	}
	return nil
}

// constraint leaves out the value that AWS quotes here: it may be a secret.
func constraint(member, what string) *Error {
	return validation("1 validation error detected: Value at '%s' failed to satisfy constraint: %s", member, what)
}

func isARN(id string) bool {
	return strings.HasPrefix(id, "arn:")
}

// An arnID is a secret id given as an ARN.
type arnID struct {
	region, account string
	resource        string // what follows "secret:": a name with or without a suffix
}

// parseARN reads arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME[-SUFFIX].
func parseARN(id string) (arnID, bool) {
	p := strings.SplitN(id, ":", 7)
	if len(p) != 7 || p[0] != "arn" || p[2] != "secretsmanager" || p[5] != "secret" || !nameRE.MatchString(p[6]) {
		return arnID{}, false
	}
	return arnID{region: p[3], account: p[4], resource: p[6]}, true
}

// name returns the name of the secret, if the ARN is a full one.
func (a arnID) name() string {
	if a.hasSuffix() {
		return a.resource[:len(a.resource)-7]
	}
	return a.resource
}

// hasSuffix reports whether the resource looks as if it ended in the random
// suffix. It is all the service goes by: the partial ARN of a secret whose own
// name ends in a hyphen and six characters is taken for a full one.
func (a arnID) hasSuffix() bool {
	n := len(a.resource)
	return n > 7 && a.resource[n-7] == '-'
}

// quote makes text from a caller safe for an error: bounded, on one line.
func quote(s string) string {
	if len(s) > 128 {
		s = s[:128] + "..."
	}
	return strconv.Quote(s)
}
