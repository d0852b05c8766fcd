package mysql

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what OAEP has here
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/rdsroots"
	"github.com/keyturn/keyturn/rotation"
)

// connection is one connection, in a pool of its own.
type connection struct {
	*sql.Conn

	pool *sql.DB
}

// close ends the connection. What was to be known of it is known by then.
func (c *connection) close() {
	_ = c.Close()
	_ = c.pool.Close()
}

// connect logs in.
func (t *Target) connect(ctx context.Context, c *credential) (*connection, error) {
	connector, err := mysql.NewConnector(t.config(c))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", c.address(), err)
	}
	pool := sql.OpenDB(connector)
	bounded, cancel := context.WithTimeout(ctx, t.opts.ConnectTimeout)
	defer cancel()
	conn, err := pool.Conn(bounded)
	if err != nil {
		_ = pool.Close()
		return nil, c.connectError(err)
	}
	return &connection{conn, pool}, nil
}

func (t *Target) config(c *credential) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = c.user, c.password(), c.database
	cfg.Net, cfg.Addr = "tcp", c.address()
	if c.socket() {
		cfg.Net = "unix"
	}
	cfg.Timeout = t.opts.ConnectTimeout
	cfg.DialFunc = t.opts.DialFunc
	if c.dialled != "" {
		cfg.Addr = c.dialled
	}
	cfg.ConnectionAttributes = "program_name:keyturn-rotation"
	cfg.CheckConnLiveness = false
	cfg.Logger = &mysql.NopLogger{} // what it has to say is in the errors too
	switch {
	case c.encrypted():
		cfg.TLS = t.tls(c)
	case !c.local():
		_ = noKeyText()
		cfg.ServerPubKey = noKey
	}
	return cfg
}

func (t *Target) tls(c *credential) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.opts.TLS != nil {
		cfg = t.opts.TLS.Clone()
	}
	switch {
	case cfg.RootCAs != nil || cfg.InsecureSkipVerify:
	case c.unproven:
		// Whoever may write that secret could have the superuser's password
		// sent to a server of theirs, which has a certificate, but not RDS's.
		cfg.RootCAs = rdsroots.Only()
	default:
		cfg.RootCAs = rdsroots.Pool()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = c.host
	}
	return cfg
}

// noKey is the name of a public key that encrypts nothing. Without TLS,
// caching_sha2_password has the driver encrypt the password with the key of
// whoever has answered; with this one it fails before anything is sent.
const noKey = "keyturn rotation none"

// noKeyText registers noKey, and returns the text of the error that it leads to,
// which is one of crypto/rsa's and no variable of it.
var noKeyText = sync.OnceValue(func() string {
	key := &rsa.PublicKey{N: big.NewInt(1), E: 65537}
	mysql.RegisterServerPubKey(noKey, key)
	_, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte("password"), nil) // as the driver does
	return err.Error()
})

var errNoKey = rotation.Problem(rotation.ReasonUnsuitable, `take "ssl": false out of the secret`,
	errors.New("the server asks for the password itself, as caching_sha2_password does when it has not seen it yet, "+
		"and there is no TLS; it was not sent"))
