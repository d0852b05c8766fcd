package mysql

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/internal/rdsroots"
)

// A base is everything about a connection but the credentials.
type base struct {
	opts Options

	// cfg is the DSN's or the user's, never changed, with what they say of TLS
	// resolved, the key of Options.ServerPubKey in it, and a logger that is quiet.
	cfg     *mysql.Config
	saysTLS bool

	// server is where the logins go. Its host is empty if that is the secret's
	// to name.
	server address

	roots func() *x509.CertPool // reads them from disk, the first time

	latest atomic.Pointer[prepared] // what the latest login was made with
	limits limits
}

// A place is a server and a database there.
type place struct {
	host     string
	port     int
	database string
}

// newBase checks the options and decides what is not the secret's to name.
func newBase(opts *Options) (*base, error) {
	if opts == nil {
		opts = &Options{}
	}
	switch {
	case opts.DSN != "" && opts.Config != nil:
		return nil, errors.New("mysql: Options.DSN and Options.Config are both set; set one of them")
	case opts.Port != 0 && opts.Host == "":
		return nil, errors.New("mysql: Options.Port is set without Options.Host; host and port come from one place, so set both or neither")
	case opts.Port != 0 && isSocket(opts.Host):
		return nil, errors.New("mysql: Options.Port is set, and Options.Host is a socket, which has no port")
	}
	option, read := "Options.DSN", func() (*mysql.Config, address, error) { return readDSN(opts.DSN) }
	if opts.Config != nil {
		option, read = "Options.Config", func() (*mysql.Config, address, error) { return readConfig(opts.Config) }
	}
	cfg, server, err := read()
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = mysql.NewConfig().Logger
	}
	cfg.Logger = quiet{cfg.Logger}
	b := &base{opts: *opts, cfg: cfg, server: server, roots: sync.OnceValue(rdsroots.Pool)}
	if opts.Host != "" {
		b.server = address{network: dialled(server.network, opts.Host), host: opts.Host, port: opts.Port}
	}
	if err := b.resolveTLS(option); err != nil {
		return nil, err
	}
	if err := b.resolveKey(option); err != nil {
		return nil, err
	}
	// What the driver would not take is not taken here.
	check := cfg.Clone()
	check.Net, check.Addr = "tcp", "host.invalid:1"
	if _, err := mysql.NewConnector(check); err != nil {
		return nil, fmt.Errorf("mysql: %s: %w", option, err)
	}
	if b.server.host == "" {
		return b, nil
	}
	// The server is known, and so is whether it would get the password unseen.
	if _, _, err := b.configure(place{b.server.host, b.server.port, opts.Database}); err != nil {
		return nil, err
	}
	return b, nil
}

// readConfig returns a copy of the user's configuration, and what it says of the
// address.
func readConfig(given *mysql.Config) (*mysql.Config, address, error) {
	cfg := given.Clone()
	for name, value := range map[string]string{"User": cfg.User, "Passwd": cfg.Passwd} {
		if value != "" {
			return nil, address{}, fmt.Errorf("mysql: Options.Config.%s is set; take it out, user and password are the secret's", name)
		}
	}
	text := cfg.Addr
	if (cfg.Net == "" || cfg.Net == "tcp") && text == "127.0.0.1:3306" {
		text = "" // the parser's
	}
	if cfg.TLS != nil && cfg.TLSConfig != "" {
		// From the parser too, with the name of the host that it saw.
		if host, _, err := net.SplitHostPort(cfg.Addr); err == nil && cfg.TLS.ServerName == host {
			cfg.TLS.ServerName = ""
		}
	}
	a, err := readAddress("Options.Config", cfg.Net, text)
	return cfg, a, err
}

// isSocket reports whether a host is the path of a socket.
func isSocket(host string) bool { return strings.HasPrefix(host, "/") }

// dialled returns the network by which a host is reached that the DSN or Config
// has not named: theirs, if it is not for sockets alone.
func dialled(network, host string) string {
	switch {
	case isSocket(host):
		return "unix"
	case network == "unix":
		return "tcp"
	}
	return network
}

// driver returns what package dbconn needs to know of the driver.
func (b *base) driver() dbconn.Driver {
	d := dbconn.Driver{
		Connector:   b.connector,
		Addresses:   b.addresses,
		Refused:     refused,
		LockedOut:   lockedOut,
		RefusesUser: refusesUser,
		Accepts:     accepts,
		Code:        code,
		Engines:     []string{"mysql", "mariadb", "aurora-mysql", "aurora"},
		Driver:      &mysql.MySQLDriver{},
		DefaultPort: defaultPort,
	}
	if b.server.host != "" && b.server.port == 0 && (b.opts.Host == "" || isSocket(b.opts.Host)) {
		d.DefaultPort = 0 // the address is complete
	}
	return d
}

// options returns the options that package dbconn sees to.
func (b *base) options() *dbconn.Options {
	return &dbconn.Options{
		Host:                b.server.host,
		Port:                b.server.port,
		Database:            b.opts.Database,
		Keys:                b.opts.Keys,
		Patience:            b.opts.Patience,
		MaxConcurrentLogins: b.opts.MaxConcurrentLogins,
		KeepOld:             b.opts.KeepOld,
		OnEvent:             b.opts.OnEvent,
		Stats:               b.opts.Stats,
		Logger:              b.opts.Logger,
	}
}

// at returns where a server is that the secret names, or whoever goes before it.
func (b *base) at(host string, port int) address {
	server := address{network: b.server.network, host: host, port: port}
	if b.server.host == "" {
		server.network = dialled(b.server.network, host)
	}
	return server
}

// addresses looks up the addresses of the server, if it is us who dial it. The
// driver alone leaves that to the dialler, which says nothing of them.
func (b *base) addresses(ctx context.Context, credentials dbconn.Credentials) ([]dbconn.Address, error) {
	server := b.at(credentials.Host, credentials.Port)
	if _, err := netip.ParseAddr(server.host); err == nil || b.cfg.DialFunc != nil || !server.isTCP() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(loginTimeout, b.cfg.Timeout))
	defer cancel()
	network := "ip" + strings.TrimPrefix(server.network, "tcp")
	found, err := net.DefaultResolver.LookupNetIP(ctx, network, server.host)
	if err != nil {
		// What is wrong with the settings is to be told first.
		if _, _, err := b.configure(place{credentials.Host, credentials.Port, credentials.Database}); err != nil {
			return nil, err
		}
		return nil, &net.OpError{Op: "dial", Net: server.network, Err: err}
	}
	deadline, _ := ctx.Deadline()
	return spread(found, uint16(server.port), time.Until(deadline)), nil
}

// configure returns a new configuration for a server, without user and password,
// and whether a [guard] must watch its logins.
func (b *base) configure(at place) (cfg *mysql.Config, guarded bool, err error) {
	cfg, server := b.cfg.Clone(), b.at(at.host, at.port)
	cfg.Net, cfg.Addr = server.network, server.text()
	if at.database != "" && (b.opts.Database != "" || cfg.DBName == "") {
		cfg.DBName = at.database
	}
	if guarded, err = b.secure(cfg, server); err != nil {
		return nil, false, err
	}
	if !dialWires(cfg, server) && guarded {
		return nil, false, errors.New("mysql: with a public key of the server the functions of mysql.RegisterDialContext are not used; " +
			"set Options.Config.DialFunc for the network " + server.network)
	}
	return cfg, guarded, nil
}
