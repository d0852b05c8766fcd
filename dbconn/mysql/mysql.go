package mysql

import (
	"crypto/rsa"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/retry"
)

// Options are the settings of a connector. The zero value of each field is its
// documented default.
//
// What they do not say the DSN or the Config may say, then the secret.
type Options struct {
	// DSN is a data source name as [mysql.ParseDSN] takes it. It names no user
	// and no password: those are the secret's. "/app?parseTime=true" leaves the
	// server to the secret too.
	DSN string

	// Config is what a DSN cannot say, in the place of one: dial functions,
	// the driver's own options. It is copied, and its BeforeConnect is called
	// for every login. It has neither User nor Passwd. The address
	// 127.0.0.1:3306, which [mysql.ParseDSN] writes where none is said, counts
	// as none: to mean it, set Host. A dial function is taken to dial the
	// address that it is given; of those of [mysql.RegisterDialContext] the ones
	// for networks of other names than tcp and unix are used.
	Config *mysql.Config

	// Host and Port, one unit, name the server; a Host that begins with a slash
	// is the path of its socket. Default: see [Options]. A host that nobody
	// names is an error, not the local machine.
	Host string
	Port int

	// Database is the database's name. Default: see [Options], or else none.
	Database string

	// Keys are the names of the secret's fields, where they are not AWS's own.
	Keys dbconn.Keys

	// TLS is the configuration of the connection; its ServerName, if empty, is
	// the host, of which a socket has none. Default: what tls= says, and where
	// nobody says that, TLS with the certificate verified against the host's
	// name and the system's roots or Amazon RDS's, which are built in, or no TLS
	// to a loopback address or a socket. There is no second attempt without TLS.
	TLS *tls.Config

	// ServerPubKey is the server's RSA key, for connections without TLS
	// (tls=false) over a network: the password is encrypted with it when the
	// server asks for it. It is what serverPubKey= names in a DSN. Default:
	// without TLS, no password to a server on another machine.
	ServerPubKey *rsa.PublicKey

	// Patience is how long a Connect waits for a rotation to end when the
	// server refuses every version of the secret: so long may a query wait that
	// has no deadline. Default 60 seconds. Negative: not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight. Zero or less: no limit.
	MaxConcurrentLogins int

	// KeepOld keeps connections that were opened with an older version of the
	// secret. Default: once a login has proven the newer version, they retire
	// when they are next taken from the pool, a tenth of them a second. The
	// driver has to be looking whether connections are alive, as it does by
	// default (checkConnLiveness), though not on Windows, and the network not to
	// be one of [mysql.RegisterDialContext].
	KeepOld bool

	// OnEvent is called for what happens to the versions of the secret. See
	// [retry.Options].
	OnEvent func(retry.Event)

	// Stats counts what happens; several pools may share one. Default: nothing
	// does.
	Stats *retry.Stats

	// Logger gets refusals and waits at Warn, never a value. Default: silent.
	// The driver's own messages go where Config.Logger says.
	Logger *slog.Logger
}

// OpenDB returns a pool whose connections log in with the credentials of the
// secret, whichever of its versions the server accepts. It opens none yet. The
// error is about its parameters. Close the pool before the cache.
func OpenDB(c *cache.Cache, secretID string, opts *Options) (*sql.DB, error) {
	connector, err := NewConnector(c, secretID, opts)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// NewConnector returns what [OpenDB] opens its pool with. Its connections are the
// driver's own. Connect returns what [dbconn.NewConnector] says; a
// [*mysql.MySQLError] in there is found by [errors.As]. A login takes 10 seconds at
// most, or as long as the DSN's timeout says if that is longer.
//
// A host that is a name is looked up for each connect, unless a dial function is given,
// and its addresses are tried in turn while they cannot be dialled, each for its share
// of the time; where there are IPv4 and IPv6, those of the first for 300 ms before the
// other's turn, and once more at the end. What the server accepts is remembered for each
// address by itself, as some may lag behind others.
func NewConnector(c *cache.Cache, secretID string, opts *Options) (driver.Connector, error) {
	base, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	return dbconn.NewConnector(c, secretID, base.driver(), base.options())
}
