package dbconn

import (
	"crypto/x509"

	"github.com/keyturn/keyturn/internal/rdsroots"
)

// RDSRoots returns the system's root certificates and Amazon RDS's, which no system
// carries, for the RootCAs of a TLS configuration; RDS's alone where the system's
// cannot be read. Packages postgres and mysql trust these where nobody says
// otherwise; it is for other drivers, and for adding to them what they lack: the
// roots of China, of GovCloud, and of the Regions that RDS has opened since the
// middle of 2023. RDS Proxy needs none of this, its roots are among the system's.
//
// The pool is the caller's own. The first call reads the system's certificates from
// disk, and later ones do not see what has changed there.
func RDSRoots() *x509.CertPool { return rdsroots.Pool() }
