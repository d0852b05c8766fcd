package postgres_test

import (
	"crypto/md5" //nolint:gosec // PostgreSQL's
	"encoding/hex"
)

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // PostgreSQL's
	return hex.EncodeToString(sum[:])
}
