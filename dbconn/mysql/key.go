package mysql

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// resolveKey puts Options.ServerPubKey into the configuration. The driver takes
// keys by the name alone that they are registered under; it is the key's own, so
// that the same key twice is one.
func (b *base) resolveKey(option string) error {
	noKeyText()
	key := b.opts.ServerPubKey
	if key == nil {
		return nil
	}
	if b.cfg.ServerPubKey != "" {
		return errors.New("mysql: Options.ServerPubKey is set, and " + option + " says serverPubKey too; say one of them")
	}
	if err := encrypt(key); err != nil {
		return fmt.Errorf("mysql: Options.ServerPubKey: %w", err)
	}
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	b.cfg.ServerPubKey = "keyturn " + hex.EncodeToString(sum[:])
	mysql.RegisterServerPubKey(b.cfg.ServerPubKey, &rsa.PublicKey{N: new(big.Int).Set(key.N), E: key.E})
	return nil
}

// encrypt does what the driver does with a password.
func encrypt(key *rsa.PublicKey) error {
	_, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte("password"), nil)
	return err
}

// noKey is the name of a public key that encrypts nothing. A driver that has a key
// does not ask the server for one, and this one fails it before anything is sent.
//
// Another way would be to watch the connection, as [guard] does for a key that is
// one; but that of a network which a program has registered with the driver is out
// of reach.
const noKey = "keyturn none"

// noKeyText registers noKey, and returns the text of the error that it leads to.
var noKeyText = sync.OnceValue(func() string {
	key := &rsa.PublicKey{N: big.NewInt(1), E: 65537}
	err := encrypt(key)
	mysql.RegisterServerPubKey(noKey, key)
	return err.Error()
})

var errNoKey = errors.New("mysql: the server asks for the password itself, as caching_sha2_password does when it has not seen it yet, " +
	"and there is no TLS (tls=false), nor a public key of the server to encrypt it with; it was not sent. " +
	"Take tls=false out, or set Options.ServerPubKey")
