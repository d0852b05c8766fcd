package rdsroots_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/rdsroots"
	"github.com/keyturn/keyturn/internal/testcert"
)

// The day of the data, and of all verifying here: no test fails by time passing.
var day = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// The regions whose roots are here, and the two that are for trying out what is
// to come.
var regions = []string{
	"Beta us-east-1", "Preview us-east-2",
	"af-south-1",
	"ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
	"ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
	"ca-central-1",
	"eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
	"me-central-1", "me-south-1",
	"sa-east-1",
	"us-east-1", "us-east-2", "us-west-1", "us-west-2",
}

// What the authorities rds-ca-rsa2048-g1, rds-ca-rsa4096-g1 and rds-ca-ecc384-g1
// are called in a certificate, and what they sign with.
var generations = map[string]struct {
	key       x509.PublicKeyAlgorithm
	bits      int
	signature x509.SignatureAlgorithm
}{
	"RSA2048 G1": {x509.RSA, 2048, x509.SHA256WithRSA},
	"RSA4096 G1": {x509.RSA, 4096, x509.SHA384WithRSA},
	"ECC384 G1":  {x509.ECDSA, 384, x509.ECDSAWithSHA384},
}

func parse(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("certificate %d: %v", len(all), err)
		}
		all = append(all, c)
	}
	return all
}

func bits(c *x509.Certificate) int {
	switch key := c.PublicKey.(type) {
	case interface{ Size() int }: // RSA's, in bytes
		return 8 * key.Size()
	case *ecdsa.PublicKey:
		return key.Curve.Params().BitSize
	}
	return 0
}

func TestRoots(t *testing.T) {
	all := parse(t, rdsroots.PEM)
	// The parser passes over what it takes for text.
	if begun := bytes.Count(rdsroots.PEM, []byte("-----BEGIN ")); begun != len(all) {
		t.Errorf("%d blocks begin, %d are certificates", begun, len(all))
	}
	seen := map[string]bool{}
	for _, c := range all {
		name := c.Subject.CommonName
		if !slices.Equal(c.Subject.Organization, []string{"Amazon Web Services, Inc."}) ||
			!slices.Equal(c.Subject.OrganizationalUnit, []string{"Amazon RDS"}) || !strings.HasPrefix(name, "Amazon RDS ") {
			t.Errorf("%s: not Amazon RDS's", c.Subject)
		}
		if !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0 {
			t.Errorf("%s: no certificate authority", name)
		}
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			t.Errorf("%s: issued by %s, not by itself", name, c.Issuer)
		} else if err := c.CheckSignatureFrom(c); err != nil {
			t.Errorf("%s: not signed by itself: %v", name, err)
		}
		if day.Before(c.NotBefore) || day.After(c.NotAfter) {
			t.Errorf("%s: valid from %s to %s", name, c.NotBefore, c.NotAfter)
		}
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true

		_, generation, _ := strings.Cut(name, " Root CA ")
		if want := generations[generation]; c.PublicKeyAlgorithm != want.key || bits(c) != want.bits || c.SignatureAlgorithm != want.signature {
			t.Errorf("%s: %s of %d bits, signed with %s; want %v", name, c.PublicKeyAlgorithm, bits(c), c.SignatureAlgorithm, want)
		}
	}
	for _, region := range regions {
		for generation := range generations {
			name := "Amazon RDS " + region + " Root CA " + generation
			if !seen[name] {
				t.Errorf("%s is missing", name)
			}
			delete(seen, name)
		}
	}
	for name := range seen {
		t.Errorf("%s is of a region that this test, and maybe the package's comment, knows nothing of", name)
	}
}

// trusts says whether a chain that ends in c verifies.
func trusts(t *testing.T, pool *x509.CertPool, c *x509.Certificate, at time.Time) bool {
	t.Helper()
	_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); err != nil && !unknown {
		t.Fatalf("%s: %v", c.Subject, err)
	}
	return err == nil
}

func trustsRDS(t *testing.T, pool *x509.CertPool) {
	t.Helper()
	for _, c := range parse(t, rdsroots.PEM) {
		if !trusts(t, pool, c, day) {
			t.Errorf("%s is not trusted", c.Subject.CommonName)
		}
	}
}

func own(t *testing.T) *x509.Certificate {
	t.Helper()
	text, _ := testcert.New(t)
	return parse(t, text)[0]
}

func TestPool(t *testing.T) {
	pool := rdsroots.Pool()
	trustsRDS(t, pool)

	stranger := own(t)
	if trusts(t, pool, stranger, time.Now()) {
		t.Error("Pool() trusts a certificate that is neither the system's nor RDS's")
	}
	pool.AddCert(stranger)
	if !trusts(t, pool, stranger, time.Now()) {
		t.Error("a certificate that was added to Pool()'s answer is not trusted")
	}
	if again := rdsroots.Pool(); again.Equal(pool) || trusts(t, again, stranger, time.Now()) {
		t.Error("Pool() has what a caller added to an earlier answer")
	}
}

func TestPoolConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		stranger := own(t)
		wg.Go(func() { rdsroots.Pool().AddCert(stranger) })
	}
	wg.Wait()
	trustsRDS(t, rdsroots.Pool())
}

func TestBesideTheSystems(t *testing.T) {
	mine, stranger := own(t), own(t)
	system := x509.NewCertPool()
	system.AddCert(mine)
	pool := rdsroots.Beside(system, nil)
	trustsRDS(t, pool)
	if !trusts(t, pool, mine, time.Now()) {
		t.Error("a root of the system's is not trusted")
	}
	if trusts(t, pool, stranger, time.Now()) {
		t.Error("a root of nobody's is trusted")
	}
}

func TestNoSystemRoots(t *testing.T) {
	alone := x509.NewCertPool()
	for _, c := range parse(t, rdsroots.PEM) {
		alone.AddCert(c)
	}
	for name, pool := range map[string]*x509.CertPool{
		"a system without roots":       rdsroots.Beside(x509.NewCertPool(), nil),
		"a system that cannot be read": rdsroots.Beside(nil, errors.New("x509: no roots")),
		"Only":                         rdsroots.Only(),
	} {
		trustsRDS(t, pool)
		if !pool.Equal(alone) {
			t.Errorf("%s: the pool is not RDS's roots alone", name)
		}
	}
}

func TestScript(t *testing.T) {
	const path = "../../scripts/rds-roots"
	if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("sh -n: %v\n%s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Who changes the script is to run it.
	for _, name := range []string{"version", "checksum", "day"} {
		set := regexp.MustCompile(`(?m)^` + name + `=(\S+)`).FindSubmatch(text)
		if set == nil {
			t.Errorf("the script sets no %s", name)
		} else if !bytes.Contains(rdsroots.PEM, set[1]) {
			t.Errorf("roots.pem was not made with the script's %s, %s", name, set[1])
		}
	}
	for _, want := range []string{"Permission is hereby granted", "Copyright (c) 2024 Andrey Sidorov"} {
		if !bytes.Contains(rdsroots.PEM, []byte(want)) {
			t.Errorf("roots.pem does not have its licence's %q", want)
		}
	}
}

func BenchmarkPool(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		rdsroots.Pool()
	}
}

// What the first call does, but for reading the system's roots.
func BenchmarkFirst(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		rdsroots.Beside(x509.NewCertPool(), nil)
	}
}
