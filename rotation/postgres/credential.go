package postgres

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
var engines = []string{"postgres", "aurora-postgresql", "postgresql", "aurora-postgres"}

// credential is what a value says.
type credential struct {
	host     string
	port     uint16
	user     string
	database string
	ssl      *bool         // nil: not said
	password func() string // see redact.Hide

	superuser bool // acts for others
	unproven  bool // where it logs in is said by the secret that is rotated
}

// parse reads a value. Its errors name keys, never what is in them.
func parse(v *rotation.Value) (*credential, error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return nil, err
	}
	return parseFields(f)
}

// parseSuperuser reads the superuser's value. If Amazon RDS manages it, it says
// nothing about the server, which is that of the other secret then. The database
// is always that secret's: what is granted is granted there.
func parseSuperuser(v *rotation.Value, current *credential) (*credential, error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return nil, superuserProblem(err)
	}
	elsewhere := f["host"] != nil
	if !elsewhere {
		f["host"] = json.RawMessage(strconv.Quote("replaced"))
		delete(f, "port")
	}
	c, err := parseFields(f)
	if err != nil {
		return nil, superuserProblem(err)
	}
	c.database, c.superuser = current.database, true
	if !elsewhere {
		c.host, c.port, c.ssl, c.unproven = current.host, current.port, current.ssl, true
	}
	return c, nil
}

func superuserProblem(err error) error {
	return rotation.Problem(rotation.ReasonSuperuser, "see that it names the right secret",
		fmt.Errorf("the superuser's secret is no credential: %w", err))
}

// masterARN returns the superuser's secret, "" if the value names none.
func masterARN(v *rotation.Value) (arn string, err error) {
	f, err := dbsecret.Of(v)
	if err != nil {
		return "", err
	}
	return arn, f.Text("masterarn", &arn)
}

func parseFields(f dbsecret.Fields) (*credential, error) {
	c := &credential{port: 5432, database: "postgres", ssl: f.TLS()}
	password, engine := "", ""
	if err := cmp.Or(
		f.Need("host", &c.host), f.Need("username", &c.user), f.Need("password", &password),
		f.Text("dbname", &c.database), f.Text("engine", &engine), f.Port(&c.port),
	); err != nil {
		return nil, err
	}
	if engine != "" && !slices.Contains(engines, strings.ToLower(engine)) {
		return nil, errors.New(`the secret's "engine" is not postgres or aurora-postgresql: use the package for it`)
	}
	// A list would be several servers, of which pgx takes whichever answers.
	if strings.Contains(c.host, ",") {
		return nil, errors.New(`the secret's "host" is a list: name one host`)
	}
	c.password = redact.Hide(password)
	return c, nil
}

// encrypted decides on TLS.
func (c *credential) encrypted() bool {
	if c.socket() {
		return false // PostgreSQL has none there
	}
	if c.ssl != nil && !c.unproven {
		return *c.ssl
	}
	return !dbsecret.IsLoopback(c.host)
}

// socket reports whether the host is a Unix socket's folder.
func (c *credential) socket() bool { return c.host[0] == '/' }

func (c *credential) address() string {
	return net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
}
