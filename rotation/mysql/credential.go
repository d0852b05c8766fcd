package mysql

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/redact"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/internal/dbsecret"
)

// engines are the values of "engine" that belong to this package.
var engines = []string{"mysql", "mariadb", "aurora-mysql", "aurora"}

// credential is what a value says.
type credential struct {
	host     string
	port     uint16
	user     string
	database string        // "": none
	engine   string        // in lower case; the server is asked where it matters
	ssl      *bool         // nil: not said
	master   string        // id of the superuser's secret
	password func() string // see redact.Hide

	dialled  string // where host is, if that was resolved before
	unproven bool   // the host is another secret's
}

// maxPassword is where the servers stop, in bytes: a longer password could be set
// here, and be used by nobody.
const maxPassword = 255

// parse reads a value. Its errors name keys, never what is in them.
func parse(v *rotation.Value) (*credential, error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return nil, err
	}
	return parseFields(f)
}

// parseSuperuser reads the superuser's value. If Amazon RDS manages it, it says
// nothing about the server, which is that of the other secret then.
func parseSuperuser(v *rotation.Value, current *credential) (*credential, error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return nil, err
	}
	elsewhere := f["host"] != nil
	if !elsewhere {
		f["host"] = json.RawMessage(strconv.Quote("replaced"))
		delete(f, "port")
	}
	c, err := parseFields(f)
	if err != nil {
		return nil, err
	}
	c.database = ""
	if !elsewhere {
		c.host, c.port, c.unproven = current.host, current.port, true
	}
	return c, nil
}

func parseFields(f dbsecret.Fields) (*credential, error) {
	c := &credential{port: 3306, ssl: f.TLS()}
	password := ""
	if err := cmp.Or(
		f.Need("host", &c.host), f.Need("username", &c.user), f.Need("password", &password),
		f.Text("dbname", &c.database), f.Text("engine", &c.engine), f.Text("masterarn", &c.master),
		f.Port(&c.port),
	); err != nil {
		return nil, err
	}
	if len(password) > maxPassword {
		return nil, fmt.Errorf(`the secret's "password" has more than %d bytes: shorten it`, maxPassword)
	}
	c.password = redact.Hide(password)
	c.engine = strings.ToLower(c.engine)
	if c.engine != "" && !slices.Contains(engines, c.engine) {
		return nil, errors.New(`the secret's "engine" is not mysql, aurora-mysql or mariadb: use the package for it`)
	}
	return c, nil
}

// encrypted decides on TLS.
func (c *credential) encrypted() bool {
	if c.socket() {
		return false // nobody is on the way
	}
	if c.ssl != nil {
		return *c.ssl
	}
	return !c.local()
}

// local reports whether the server is on this machine.
func (c *credential) local() bool { return c.socket() || dbsecret.IsLoopback(c.host) }

// socket reports whether the host is the path of a Unix socket.
func (c *credential) socket() bool { return c.host[0] == '/' }

func (c *credential) address() string {
	if c.socket() {
		return c.host
	}
	return net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
}
