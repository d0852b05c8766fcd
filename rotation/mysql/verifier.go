package mysql

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what the server stores
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// The plugins whose verifiers can be computed here, as the servers call them.
const (
	cachingSHA2 = "caching_sha2_password"
	plainSHA2   = "sha256_password"
	native      = "mysql_native_password" // the one that MariaDB has
)

const (
	saltLength = 20

	// Both kinds count rounds of SHA-crypt. sha256_password has crypt's own
	// default, caching_sha2_password a setting: caching_sha2_password_digest_rounds.
	plainRounds   = 5000
	defaultRounds = 5000
	minRounds     = 5000
	maxRounds     = 4095000
)

// newVerifier returns what the server stores instead of the password. rounds is
// the server's caching_sha2_password_digest_rounds, 0 if that is not known.
func newVerifier(plugin, password string, rounds int) (string, error) {
	switch plugin {
	case cachingSHA2:
		if rounds < minRounds || rounds > maxRounds {
			rounds = defaultRounds
		}
		thousands := rounds / 1000
		salt := newSalt()
		return fmt.Sprintf("$A$%03X$%s%s", thousands, salt, shaCrypt(password, salt, thousands*1000)), nil
	case plainSHA2:
		salt := newSalt()
		return "$5$" + salt + "$" + shaCrypt(password, salt, plainRounds), nil
	case native:
		return nativeVerifier(password), nil
	}
	return "", errPlugin(plugin)
}

// verifies reports whether the verifier that the server has stored is that of the
// password.
func verifies(plugin, stored, password string) (bool, error) {
	var computed string
	switch plugin {
	case cachingSHA2:
		// $A$005$, 20 characters of salt, 43 of digest
		if len(stored) != len("$A$005$")+saltLength+digestLength || stored[:3] != "$A$" || stored[6] != '$' {
			return false, fmt.Errorf("the server stores passwords of %s in a form that this version does not know", plugin)
		}
		thousands, err := strconv.ParseUint(stored[3:6], 16, 16)
		if err != nil {
			return false, fmt.Errorf("the server stores passwords of %s in a form that this version does not know", plugin)
		}
		salt := stored[7 : 7+saltLength]
		computed = stored[:7] + salt + shaCrypt(password, salt, int(thousands)*1000)
	case plainSHA2:
		salt, _, ok := strings.Cut(strings.TrimPrefix(stored, "$5$"), "$")
		if !ok || !strings.HasPrefix(stored, "$5$") || len(salt) != saltLength {
			return false, fmt.Errorf("the server stores passwords of %s in a form that this version does not know", plugin)
		}
		computed = "$5$" + salt + "$" + shaCrypt(password, salt, plainRounds)
	case native:
		computed = nativeVerifier(password)
	default:
		return false, errPlugin(plugin)
	}
	return subtle.ConstantTimeCompare([]byte(computed), []byte(stored)) == 1, nil
}

// nativeVerifier is SHA1(SHA1(password)), as PASSWORD() writes it.
func nativeVerifier(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // see the import
	twice := sha1.Sum(once[:])         //nolint:gosec // see the import
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// newSalt returns a salt of characters that need no quoting anywhere. The
// servers' own have all there are but NUL and $.
func newSalt() string {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it never fails
	for i, b := range salt {
		salt[i] = cryptAlphabet[b%64]
	}
	return string(salt)
}
