// Package rdsroots trusts the servers of Amazon RDS, whose certificates hang on
// roots of Amazon's own that no system carries.
//
// There is a root per region and kind of key. Here are those of the regions that
// RDS had in the middle of 2023: the source, an npm package, has no newer ones. A
// server whose root is not here is refused until somebody puts it into a pool.
// That is the case in China, in GovCloud, and in the regions that came later:
// ap-east-2, ap-southeast-5, ap-southeast-6, ap-southeast-7, ca-west-1,
// il-central-1 and mx-central-1 by the beginning of 2026.
//
// RDS Proxy needs nothing of this package: its roots are among the system's.
package rdsroots

import (
	"crypto/x509"
	_ "embed"
	"sync"
)

// roots is PEM, under the notice of the licence that it came with: so the notice
// is in every program that the roots are in.
//
//go:embed roots.pem
var roots []byte

// Parsing takes milliseconds, which a program that never asks does not spend.
var pool = sync.OnceValue(func() *x509.CertPool { return beside(x509.SystemCertPool()) })

// Pool returns the system's roots and Amazon RDS's beside them; RDS's alone where
// the system has none or does not let them be read. The pool is the caller's own,
// to change at will. The first call reads the system's from disk and is the one
// that takes time; what the system trusts later is not seen any more. Pool may be
// called concurrently.
func Pool() *x509.CertPool { return pool().Clone() }

// beside takes the answer of [x509.SystemCertPool], and its pool for good.
func beside(system *x509.CertPool, err error) *x509.CertPool {
	if err != nil {
		// To fail would be no safer: trusting fewer roots refuses more servers.
		system = x509.NewCertPool()
	}
	// It keeps the bytes and parses them anew where a chain needs one of them,
	// AddCert would keep all of the parsed ones. The tests see to it that each parses.
	system.AppendCertsFromPEM(roots)
	return system
}

// Only returns Amazon RDS's roots without the system's, in a pool that is the
// caller's own. It is for whom nobody but RDS is to be.
func Only() *x509.CertPool { return beside(x509.NewCertPool(), nil) }
