package postgres

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // what the server asks for
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

const (
	scramIterations = 4096 // PostgreSQL's own default, and the number before there was a setting
	scramSalt       = 16
)

// newVerifier returns what the server stores instead of the password. encryption
// is its setting password_encryption, iterations its scram_iterations.
func newVerifier(encryption string, iterations int, user, password string) (string, error) {
	switch encryption {
	case "scram-sha-256":
		salt := make([]byte, scramSalt)
		_, _ = rand.Read(salt) // it never fails
		return scram(password, salt, iterations)
	case "md5", "on": // on: before PostgreSQL 10
		sum := md5.Sum([]byte(password + user)) //nolint:gosec // see above
		return "md5" + hex.EncodeToString(sum[:]), nil
	}
	return "", fmt.Errorf("the server's password_encryption is %q, which this version does not know: set scram-sha-256", encryption)
}

// scram is RFC 5803's verifier, as PostgreSQL writes it. The password is ASCII,
// so there is nothing to normalise.
func scram(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving the verifier: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key"))), nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
