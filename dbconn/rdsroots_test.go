package dbconn_test

import (
	"crypto/x509"
	"testing"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/internal/rdsroots"
	"github.com/keyturn/keyturn/internal/testcert"
)

// The roots are those of the packages below, and who adds one of their own adds it
// for nobody else.
func TestRDSRoots(t *testing.T) {
	pool := dbconn.RDSRoots()
	if !pool.Equal(rdsroots.Pool()) || pool.Equal(x509.NewCertPool()) {
		t.Error("RDSRoots are not what the packages below trust")
	}
	cert, _ := testcert.New(t)
	if !pool.AppendCertsFromPEM(cert) {
		t.Fatal("the certificate cannot be added")
	}
	if pool.Equal(dbconn.RDSRoots()) || !dbconn.RDSRoots().Equal(rdsroots.Pool()) {
		t.Error("a root of the caller's own is there for all")
	}
}
