package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/rotation"
	rotationmysql "github.com/keyturn/keyturn/rotation/mysql"
	rotationpostgres "github.com/keyturn/keyturn/rotation/postgres"
)

// maxUnlabelled bounds the logins with versions that have no label, as package
// rotation does.
const maxUnlabelled = 3

// A login is the outcome of one, on one server.
type login struct {
	version *secretVersion
	label   string // "": an unlabelled version
	server  string
	replica bool
	outcome outcome
}

type outcome int

const (
	noVerdict outcome = iota // it was not reached, or failed in another way
	accepted
	refused
)

// target logs in as a rotation would test a password: with exactly that, once, and
// never without TLS where TLS is due. A connector of dbconn would go on to the other
// versions when one is refused.
type target interface {
	Test(context.Context, *rotation.Value) error
	TestAt(context.Context, *rotation.Value, rotation.Node) error
	Replicas(context.Context, *rotation.Value) ([]rotation.Node, error)
}

func targetOf(e engine, replicas []string) target {
	switch e.name {
	case postgreSQL.name:
		return rotationpostgres.NewTarget(&rotationpostgres.Options{Replicas: replicas, LookupHost: lookup})
	case mySQL.name:
		return rotationmysql.NewTarget(&rotationmysql.Options{Replicas: replicas, LookupHost: lookup})
	default:
		return nil
	}
}

// lookup resolves a replica's name. One that does not resolve stands for itself, so
// that its own login fails and not those on the others.
func lookup(ctx context.Context, host string) ([]string, error) {
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return []string{host}, nil //nolint:nilerr // see above
	}
	return addrs, nil
}

// A loginRun makes the logins.
type loginRun struct {
	api      secretsAPI
	snap     *snapshot
	values   map[string]database
	replicas []string

	target   target
	logins   []login
	findings []Finding
}

func (l *loginRun) run(ctx context.Context) ([]login, []Finding) {
	current := l.snap.labelled[stageCurrent]
	if current == nil {
		return nil, l.cannot("there is no AWSCURRENT", "")
	}
	db, ok := l.values[current.id]
	switch {
	case !ok:
		return nil, l.cannot("AWSCURRENT was not read, or is not a database secret", "")
	case db.host == "":
		return nil, l.cannot("AWSCURRENT names no host", `log in by hand, or put "host" into the secret`)
	}
	if l.target = targetOf(db.engine, l.replicas); l.target == nil {
		return nil, l.cannot("AWSCURRENT is not for PostgreSQL, MySQL or MariaDB, as far as its engine and port tell", `put "engine" into the secret`)
	}
	nodes, err := l.target.Replicas(ctx, rotation.NewValue(current.text()))
	if err != nil {
		l.findings = l.cannot("the replicas: "+err.Error(), `make "replicas" in the secret a list of hosts, or host:port`)
	}
	l.server(ctx, nil)
	for _, node := range nodes {
		l.server(ctx, &node)
	}
	return l.logins, l.findings
}

func (*loginRun) cannot(why, fix string) []Finding {
	return []Finding{{Check: checkLogin, Status: Unknown, Detail: "no login: " + why, Fix: fix}}
}

// server logs in with each version whose outcome says something: on the server that
// it names, or on a replica.
func (l *loginRun) server(ctx context.Context, node *rotation.Node) {
	var tried []login
	for _, label := range stages {
		v := l.snap.labelled[label]
		if v == nil || l.snap.labelsOf(v)[0] != label {
			continue
		}
		if why := l.pointless(label, v, tried); why != "" {
			l.findings = append(l.findings, Finding{Check: checkLogin, Status: Note, Version: v.id, Server: l.address(v, node), Detail: label + " not tried: " + why})
			continue
		}
		one, goOn := l.one(ctx, label, v, node)
		tried = append(tried, one)
		if !goOn {
			return
		}
	}
	if node == nil && !slices.ContainsFunc(tried, func(t login) bool { return t.outcome != refused }) {
		l.unlabelled(ctx)
	}
}

// pointless says why a login would tell nothing, "" if it tells something.
func (l *loginRun) pointless(label string, v *secretVersion, tried []login) string {
	db, ok := l.values[v.id]
	switch {
	case !ok:
		return "it has no value that names a user"
	case db.host == "":
		return "it names no host"
	}
	for _, t := range tried {
		before := l.values[t.version.id]
		switch {
		case t.version.text() == v.text():
			return "it is a copy of " + t.label
		case label == stagePrevious && t.outcome == accepted && before.user == db.user:
			return fmt.Sprintf("%s of the same user is accepted, and a failed login would count", t.label)
		}
	}
	return ""
}

// unlabelled looks for the password that works where no label is on it any more:
// a rotation was given up after it had been set.
func (l *loginRun) unlabelled(ctx context.Context) {
	current := l.values[l.snap.labelled[stageCurrent].id]
	for _, v := range l.snap.other[:min(len(l.snap.other), maxUnlabelled)] {
		ok, err := v.readUnlabelled(ctx, l.api, l.snap.secret)
		if err != nil {
			f := explain(l.snap.secret, err).finding("GetSecretValue of a version without a label", l.snap.key())
			f.Version = v.id
			l.findings = append(l.findings, f)
			return
		}
		if !ok {
			continue
		}
		_, db := inspect(ctx, l.snap.secret, v, "")
		if db == nil || db.user != current.user || db.host != current.host || db.port != current.port {
			continue // somebody else's password
		}
		l.values[v.id] = *db
		if one, goOn := l.one(ctx, "", v, nil); one.outcome == accepted || !goOn {
			return
		}
	}
}

// one logs in once. It reports whether the next version may be tried there.
func (l *loginRun) one(ctx context.Context, label string, v *secretVersion, node *rotation.Node) (_ login, goOn bool) {
	value := rotation.NewValue(v.text())
	var err error
	if node == nil {
		err = l.target.Test(ctx, value)
	} else {
		err = l.target.TestAt(ctx, value, *node)
	}
	name := label
	if name == "" {
		name = "a version without a label"
	}
	made := login{version: v, label: label, server: l.address(v, node), replica: node != nil}
	f := Finding{Check: checkLogin, Version: v.id, Server: made.server}
	where := "the server"
	if node != nil {
		where = "the replica"
	}
	switch {
	case err == nil:
		made.outcome, goOn = accepted, true
		f.Status, f.Detail = OK, fmt.Sprintf("%s logs in on %s, user %q", name, where, l.values[v.id].user)
	case errors.Is(err, rotation.ErrRefused):
		made.outcome, goOn = refused, true
		f.Status, f.Detail = Note, fmt.Sprintf("%s is refused: %v", name, err)
		if label == stageCurrent {
			f.Status = Problem
		}
	case answered(err):
		f.Status, f.Detail = Problem, fmt.Sprintf("%s does not log in, and no other version is tried there: %v", name, err)
	default:
		f.Status, f.Detail = Unknown, fmt.Sprintf("%s, no verdict, and no other version is tried there: %v", name, err)
		f.Fix = "run it where the applications run: in the VPC of the database, with its certificate trusted"
	}
	l.logins = append(l.logins, made)
	l.findings = append(l.findings, f)
	return made, goOn
}

// answered reports whether the server itself has said what is wrong: locked, full, no
// such database.
func answered(err error) bool {
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return true
	}
	_, ok := errors.AsType[*mysql.MySQLError](err)
	return ok
}

func (l *loginRun) address(v *secretVersion, node *rotation.Node) string {
	if node != nil {
		return node.String()
	}
	db := l.values[v.id]
	return strings.TrimSuffix(net.JoinHostPort(db.host, strconv.Itoa(db.port)), ":0")
}
