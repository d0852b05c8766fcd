// Command generate picks the roots that are worth embedding out of a JavaScript
// file with certificates in it. It is a step of scripts/rds-roots.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run reads the file from the standard input and writes PEM, sorted by name. Its
// argument is the day by which a root must not have expired: today would give
// other output tomorrow.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: generate YYYY-MM-DD <FILE.js >FILE.pem")
	}
	day, err := time.Parse(time.DateOnly, args[0])
	if err != nil {
		return err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	all, err := parse(input)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(c *x509.Certificate) bool { return !isRoot(c) || c.NotAfter.Before(day) })
	slices.SortFunc(kept, func(a, b *x509.Certificate) int {
		if order := strings.Compare(a.Subject.CommonName, b.Subject.CommonName); order != 0 {
			return order
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	kept = slices.CompactFunc(kept, (*x509.Certificate).Equal)
	for _, c := range kept {
		fmt.Printf("\n# %s, until %s\n", c.Subject.CommonName, c.NotAfter.Format(time.DateOnly))
		if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d certificates, of which %d are roots that are valid on %s\n", len(all), len(kept), args[0])
	return nil
}

// quoting is what stands around a line of PEM that is a string of JavaScript's:
// 'MIIE\n' + in its own line.
var quoting = regexp.MustCompile(`(?m)^\s*'|\\n'( \+|,)?$`)

func parse(input []byte) ([]*x509.Certificate, error) {
	text := quoting.ReplaceAll(input, nil)
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(c.Subject.OrganizationalUnit, "Amazon RDS") {
			return nil, fmt.Errorf("%s is not Amazon RDS's", c.Subject)
		}
		all = append(all, c)
	}
	// Decode passes over what it cannot read.
	if begun := bytes.Count(input, []byte("-----BEGIN ")); begun != len(all) || begun == 0 {
		return nil, fmt.Errorf("%d certificates begin, %d can be read", begun, len(all))
	}
	return all, nil
}

func isRoot(c *x509.Certificate) bool {
	return c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
