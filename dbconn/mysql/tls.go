package mysql

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"github.com/go-sql-driver/mysql"
)

// trustRDS has a configuration that verifies the server by the system's roots trust
// Amazon RDS's too: no system has those.
func (b *base) trustRDS(t *tls.Config) {
	if t != nil && t.RootCAs == nil && !t.InsecureSkipVerify {
		t.RootCAs = b.roots()
	}
}

// verifies reports whether t finds out who the server is.
func verifies(t *tls.Config) bool {
	return t != nil && (!t.InsecureSkipVerify || t.VerifyPeerCertificate != nil || t.VerifyConnection != nil)
}

// resolveTLS replaces the name of a TLS configuration by what it stands for, so
// that it can be judged.
func (b *base) resolveTLS(option string) error {
	cfg := b.cfg
	b.saysTLS = cfg.TLS != nil || cfg.TLSConfig != ""
	if b.saysTLS && b.opts.TLS != nil {
		return errors.New("mysql: Options.TLS is set, and " + option + " says tls too; say one of them")
	}
	if cfg.TLS == nil && cfg.TLSConfig != "" {
		// The only way that the driver has to tell what was registered.
		named, err := mysql.ParseDSN("unix(/)/?tls=" + url.QueryEscape(cfg.TLSConfig))
		if err != nil {
			return fmt.Errorf("mysql: %s says tls=%s, which is neither true, false, skip-verify nor the name of a configuration that mysql.RegisterTLSConfig got",
				option, cfg.TLSConfig)
		}
		cfg.TLS = named.TLS
		cfg.AllowFallbackToPlaintext = cfg.AllowFallbackToPlaintext || named.AllowFallbackToPlaintext
	}
	if b.opts.TLS != nil {
		b.saysTLS, cfg.TLS = true, b.opts.TLS.Clone()
	}
	cfg.TLSConfig = ""
	return nil
}

// secure decides on TLS, and sees to it that a server which has not shown who it
// is does not get the password, unless it is on this machine: there it may have
// what its user may have. It reports whether the login must be guarded.
func (b *base) secure(cfg *mysql.Config, server address) (guarded bool, err error) {
	local := server.local()
	if !b.saysTLS && !local {
		cfg.TLS = &tls.Config{}
	}
	if local {
		return false, nil
	}
	pinned := cfg.ServerPubKey != ""
	switch {
	case cfg.TLS != nil && cfg.AllowFallbackToPlaintext:
		return false, errors.New("mysql: tls=preferred, or allowFallbackToPlaintext, goes on in clear text when whoever answers says so; " +
			"say tls=true, or take it out: verified TLS is the default. To have no TLS say tls=false")
	case cfg.AllowCleartextPasswords && !verifies(cfg.TLS):
		return false, errors.New("mysql: allowCleartextPasswords gives the password to whoever answers and asks for it, if TLS does not verify the server; " +
			"take it out, or have TLS verify: that is the default")
	case cfg.AllowOldPasswords && !verifies(cfg.TLS):
		return false, errors.New("mysql: allowOldPasswords gives whoever answers what the password is easily computed from, if TLS does not verify the server; " +
			"take it out, or have TLS verify: that is the default")
	case cfg.TLS != nil && !verifies(cfg.TLS) && pinned:
		return false, errors.New("mysql: a public key of the server does nothing where there is TLS, and this TLS does not verify the server; " +
			"have TLS verify, or say tls=false to use the key")
	case cfg.TLS != nil:
		return false, nil
	case pinned:
		return true, nil
	}
	cfg.ServerPubKey = noKey
	return false, nil
}
