package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/internal/rdsroots"
)

// A base is everything about a connection but the credentials.
type base struct {
	opts  Options
	dsn   dsn
	given *pgx.ConnConfig // what is there in the place of a dsn, or nil

	poolSettings dsn // those of pgxpool

	// The server, if it is not the secret's to name. host may be a list, as in
	// a DSN; it is then a name for the whole of it.
	host string
	port int

	// What else is not the secret's to name, or not ours to decide.
	saysDatabase, saysTLS bool

	mu      sync.Mutex // protects following; not held during Configure
	configs map[place]func() (*pgx.ConnConfig, error)
}

// A place is a server and a database there.
type place struct {
	host     string
	port     int
	database string
}

// newBase checks the options and decides what is not the secret's to name.
func newBase(opts *Options) (*base, error) {
	if opts.Port != 0 && opts.Host == "" {
		return nil, errors.New("postgres: Options.Port is set without Options.Host; host and port come from one place, so set both or neither")
	}
	d, err := readDSN(opts.DSN)
	if err != nil {
		return nil, err
	}
	pool := d.split()
	if opts.TLS != nil && d["sslmode"] != "" {
		return nil, errors.New("postgres: Options.TLS and sslmode in Options.DSN are both set; set one of them")
	}
	cfg, err := d.parse(nil)
	if err != nil {
		return nil, err
	}
	// Over a socket, which is pgx's default, nothing of TLS is looked at.
	if d["host"] == "" {
		if _, err := d.parse(dsn{"host": "host.invalid", "port": "1"}); err != nil {
			return nil, err
		}
	}
	b := &base{
		opts:         *opts,
		dsn:          d,
		poolSettings: pool,
		saysDatabase: d["dbname"] != "" || os.Getenv("PGDATABASE") != "",
		saysTLS:      d["sslmode"] != "" || os.Getenv("PGSSLMODE") != "",
		configs:      make(map[place]func() (*pgx.ConnConfig, error)),
	}
	if hosts := os.Getenv("PGHOST"); hosts != "" && emptyHost(hosts) {
		return nil, errors.New("postgres: PGHOST names an empty host, which pgx would take for the local machine")
	}
	saysHost := d["host"] != "" || os.Getenv("PGHOST") != ""
	if d["service"] != "" || os.Getenv("PGSERVICE") != "" {
		// A service file may say as much, and pgx alone reads it. What is not
		// pgx's default was said: another host than this machine, a database,
		// other attempts than TLS and then clear text.
		saysHost = saysHost || !local(cfg.Host)
		b.saysDatabase = b.saysDatabase || cfg.Database != ""
		b.saysTLS = b.saysTLS || !prefers(cfg)
	}
	switch {
	case opts.Host != "":
		b.host, b.port = opts.Host, opts.Port
	case saysHost:
		b.host, b.port = hosts(cfg), int(cfg.Port)
	}
	return b, nil
}

// newBaseFrom is newBase for a configuration that somebody has made. What it says
// is what differs from what pgx makes of nothing.
func newBaseFrom(cfg *pgx.ConnConfig, opts *Options) (*base, error) {
	if opts.Port != 0 && opts.Host == "" {
		return nil, errors.New("postgres: Options.Port is set without Options.Host; host and port come from one place, so set both or neither")
	}
	nothing, err := parse("")
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.User != nothing.User && cfg.User != "":
		return nil, errors.New("postgres: the configuration names a user; take it out, user and password are the secret's")
	case cfg.Password != nothing.Password && cfg.Password != "":
		return nil, errors.New("postgres: the configuration has a password; take it out, user and password are the secret's")
	}
	b := &base{
		opts:         *opts,
		dsn:          make(dsn),
		given:        cfg.Copy(),
		saysDatabase: cfg.Database != "",
		saysTLS:      !prefers(cfg) || os.Getenv("PGSSLMODE") != "",
		configs:      make(map[place]func() (*pgx.ConnConfig, error)),
	}
	if opts.TLS != nil && b.saysTLS {
		return nil, errors.New("postgres: Options.TLS is set, and the configuration says how to use TLS; leave one of them out")
	}
	switch {
	case opts.Host != "":
		b.host, b.port = opts.Host, opts.Port
	case os.Getenv("PGHOST") != "" || hosts(cfg) != hosts(nothing) || cfg.Port != nothing.Port:
		b.host, b.port = hosts(cfg), int(cfg.Port)
	}
	if b.host != "" && emptyHost(b.host) {
		return nil, errors.New("postgres: an empty host is named, which pgx would take for the local machine")
	}
	return b, nil
}

// build makes a configuration with further settings.
func (b *base) build(settings dsn) (*pgx.ConnConfig, error) {
	if b.given == nil {
		return b.dsn.parse(settings)
	}
	cfg := b.given.Copy()
	if settings["dbname"] != "" {
		cfg.Database = settings["dbname"]
	}
	if settings["host"] == "" && settings["sslmode"] == "" {
		return cfg, nil
	}
	// Where to and how, as pgx itself makes it of these settings.
	if settings["host"] == "" {
		settings["host"], settings["port"] = servers(cfg)
	}
	// Over a socket cfg says nothing of TLS, whatever PGSSLMODE says: there pgx is
	// to read that again, for the host. Else what was said would be clear text.
	if settings["sslmode"] == "" && !strings.HasPrefix(cfg.Host, "/") {
		return b.moved(cfg, settings)
	}
	to, err := parse(settings.text())
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = to.Host, to.Port, to.TLSConfig, to.Fallbacks
	return cfg, nil
}

// moved returns cfg with another host, and TLS as it was said there.
func (b *base) moved(cfg *pgx.ConnConfig, settings dsn) (*pgx.ConnConfig, error) {
	to, err := parse(dsn{"host": settings["host"], "port": settings["port"], "sslmode": "disable"}.text())
	if err != nil {
		return nil, err
	}
	old := cfg.Host
	cfg.Host, cfg.Port, cfg.Fallbacks = to.Host, to.Port, to.Fallbacks
	if t := cfg.TLSConfig; t != nil && (t.ServerName == old || t.ServerName == "") {
		t = t.Clone()
		t.ServerName = to.Host
		cfg.TLSConfig = t
	}
	for _, next := range cfg.Fallbacks {
		if next.TLSConfig = cfg.TLSConfig.Clone(); next.TLSConfig != nil && next.TLSConfig.ServerName == to.Host {
			next.TLSConfig.ServerName = next.Host
		}
	}
	return cfg, nil
}

// servers returns the hosts and the ports of cfg, as a DSN names them.
func servers(cfg *pgx.ConnConfig) (hosts, ports string) {
	hosts, ports = cfg.Host, strconv.Itoa(int(cfg.Port))
	last := cfg.Host
	for _, next := range cfg.Fallbacks {
		if next.Host != last {
			hosts, ports, last = hosts+","+next.Host, ports+","+strconv.Itoa(int(next.Port)), next.Host
		}
	}
	return hosts, ports
}

// hosts returns a name for the servers of cfg: the one, or the list.
func hosts(cfg *pgx.ConnConfig) string {
	list := []string{cfg.Host}
	for _, next := range cfg.Fallbacks {
		if next.Host != list[len(list)-1] {
			list = append(list, next.Host)
		}
	}
	return strings.Join(list, ",")
}

// prefers reports whether cfg is what pgx makes of it when nobody says sslmode:
// every server over TLS and then again without. Over a socket it says nothing.
func prefers(cfg *pgx.ConnConfig) bool {
	encrypted, plain := 0, 0
	count := func(host string, t *tls.Config) {
		switch {
		case strings.HasPrefix(host, "/"):
		case t != nil:
			encrypted++
		default:
			plain++
		}
	}
	count(cfg.Host, cfg.TLSConfig)
	for _, next := range cfg.Fallbacks {
		count(next.Host, next.TLSConfig)
	}
	return encrypted == plain
}

// prepared returns the configuration for the server that the credentials name,
// which is made once. It is shared: copy it before you change it.
func (b *base) prepared(credentials dbconn.Credentials) (*pgx.ConnConfig, error) {
	at := place{credentials.Host, credentials.Port, credentials.Database}
	b.mu.Lock()
	configure := b.configs[at]
	if configure == nil {
		configure = sync.OnceValues(func() (*pgx.ConnConfig, error) { return b.configure(at) })
		b.configs[at] = configure
	}
	b.mu.Unlock()
	return configure()
}

// configure makes the configuration for a server, without user and password.
func (b *base) configure(at place) (*pgx.ConnConfig, error) {
	if emptyHost(at.host) {
		return nil, errors.New("postgres: an empty host is named, which pgx would take for the local machine; check the host in the secret, in Options and in PGHOST")
	}
	cfg, err := b.build(b.settings(at))
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password = "", "" // whatever the environment and ~/.pgpass say
	if b.opts.TLS != nil {
		useTLS(cfg, b.opts.TLS)
	}
	trustRDS(cfg)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if b.opts.Configure != nil {
		if err := b.opts.Configure(cfg); err != nil {
			return nil, fmt.Errorf("postgres: Options.Configure: %w", err)
		}
	}
	return cfg, nil
}

// settings returns what goes before the DSN's own settings for a server.
func (b *base) settings(at place) dsn {
	settings := make(dsn)
	if b.opts.Host != "" || b.host == "" {
		settings["host"], settings["port"] = at.host, strconv.Itoa(at.port)
	}
	if at.database != "" && (b.opts.Database != "" || !b.saysDatabase) {
		settings["dbname"] = at.database
	}
	switch {
	case b.opts.TLS != nil:
		settings["sslmode"] = "require"
	case !b.saysTLS:
		// pgx's own default is "prefer": TLS that verifies nothing, and a
		// second attempt in clear text.
		settings["sslmode"] = "disable"
		for host := range strings.SplitSeq(at.host, ",") {
			if !local(host) {
				settings["sslmode"] = "verify-full"
			}
		}
	}
	return settings
}

// local reports whether the host is this machine: a socket or a loopback
// address, where there is nobody on the way.
func local(host string) bool {
	if strings.HasPrefix(host, "/") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// trustRDS has every attempt that verifies the server by the system's roots trust
// Amazon RDS's too: no system has those.
func trustRDS(cfg *pgx.ConnConfig) {
	trust := func(t *tls.Config) {
		if t != nil && t.RootCAs == nil && !t.InsecureSkipVerify {
			t.RootCAs = rdsroots.Pool()
		}
	}
	trust(cfg.TLSConfig)
	for _, next := range cfg.Fallbacks {
		trust(next.TLSConfig)
	}
}

// useTLS has every attempt of cfg that goes over a network use t.
func useTLS(cfg *pgx.ConnConfig, t *tls.Config) {
	with := func(host string, old *tls.Config) *tls.Config {
		if old == nil {
			return nil // a socket: TLS was asked for
		}
		t := t.Clone()
		if t.ServerName == "" {
			t.ServerName = host
		}
		return t
	}
	cfg.TLSConfig = with(cfg.Host, cfg.TLSConfig)
	for _, next := range cfg.Fallbacks {
		next.TLSConfig = with(next.Host, next.TLSConfig)
	}
}
