package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
)

// An engine is a family of servers that one of dbconn's packages is for.
type engine struct {
	name  string
	names []string // in the secret's field "engine"
	port  int
}

var (
	postgreSQL = engine{"PostgreSQL", []string{"postgres", "aurora-postgresql", "postgresql", "aurora-postgres"}, 5432}
	mySQL      = engine{"MySQL or MariaDB", []string{"mysql", "mariadb", "aurora-mysql", "aurora"}, 3306}
)

// A database is what a value says, without the password.
type database struct {
	engine engine // zero: not known
	user   string
	host   string // "": the secret does not say
	port   int
	name   string
}

func (d database) String() string {
	where := "on a server that the secret does not name"
	if d.host != "" {
		where = fmt.Sprintf("on %s:%d", d.host, d.port)
	}
	if d.name != "" {
		where += fmt.Sprintf(", database %q", d.name)
	}
	name := d.engine.name
	if name == "" {
		name = "a database"
	}
	return fmt.Sprintf("%s %s, user %q", name, where, d.user)
}

// readValues says of each version that was read whether package dbconn can use it,
// and returns what is in those that it can, by their ids.
func readValues(ctx context.Context, s *snapshot) (map[string]database, []Finding) {
	values := make(map[string]database)
	var found []Finding
	for _, label := range stages {
		v := s.labelled[label]
		if v == nil || v.read != wasRead || s.labelsOf(v)[0] != label {
			continue
		}
		f, db := inspect(ctx, s.secret, v, s.managedBy())
		if db != nil {
			values[v.id] = *db
		}
		f.Detail = label + ": " + f.Detail
		found = append(found, f)
	}
	return values, found
}

// inspect judges one value, by letting dbconn itself read it: a second reader here
// would be of another opinion some day.
func inspect(ctx context.Context, secret string, v *secretVersion, owner string) (Finding, *database) {
	f := Finding{Check: checkValue, Status: OK, Version: v.id}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(v.text()), &fields) != nil || !slices.ContainsFunc([]string{"username", "password", "engine", "host"}, func(key string) bool { return fields[key] != nil }) {
		f.Status, f.Detail = Note, "not a JSON object with username and password, so not a database secret; package cache reads it, dbconn does not"
		return f, nil
	}
	named, sort := engineOf(fields)
	credentials, err := held(ctx, secret, v, &dbconn.Options{}, sort)
	nameless := false
	if err != nil {
		// Is it only the host?
		if credentials, err = held(ctx, secret, v, &dbconn.Options{Host: "host.invalid"}, sort); err != nil {
			f.Status, f.Detail = Problem, err.Error()
			f.Fix = "put the field into the secret, in a new version of it, or set Options.Keys if it is there by another name"
			return f, nil
		}
		nameless = true
	}
	db := &database{engine: sort, user: credentials.Username, host: credentials.Host, port: credentials.Port, name: credentials.Database}
	if nameless {
		db.host, db.port = "", 0
	}
	f.Detail = db.String()
	switch {
	case named && sort.name == "":
		f.Status = Note
		f.Detail += "; its engine is none that dbconn has a package for: see dbconn.NewConnector"
	case nameless && owner != "":
		f.Status = Note
		f.Detail += ", as is usual for a secret that " + owner + " manages: applications name the host in Options.Host"
	case nameless:
		f.Status = Problem
		f.Detail += ": applications must name it in Options.Host, and rotation cannot do without"
		f.Fix = `put "host", and "port" if it is not the default, into the secret`
	}
	return f, db
}

// engineOf tells the engine by its name, and without one by the port.
func engineOf(fields map[string]json.RawMessage) (named bool, _ engine) {
	var name string
	if raw := fields["engine"]; raw != nil && json.Unmarshal(raw, &name) == nil && name != "" {
		for _, e := range []engine{postgreSQL, mySQL} {
			if slices.Contains(e.names, strings.ToLower(name)) {
				return true, e
			}
		}
		return true, engine{}
	}
	switch strings.Trim(string(fields["port"]), `"`) {
	case "5432":
		return false, postgreSQL
	case "3306":
		return false, mySQL
	}
	return false, engine{}
}

// held returns what dbconn makes of a version. Nothing logs in.
func held(ctx context.Context, secret string, v *secretVersion, opts *dbconn.Options, e engine) (dbconn.Credentials, error) {
	c, err := cache.New(&onlyVersion{secret: secret, version: v}, nil)
	if err != nil {
		return dbconn.Credentials{}, err
	}
	defer c.Close()
	src, err := dbconn.NewSource(c, secret, dbconn.Driver{
		Connector:   nil,
		Refused:     func(error) bool { return false },
		Engines:     e.names,
		DefaultPort: e.port,
	}, opts, nil)
	if err != nil {
		return dbconn.Credentials{}, err
	}
	return src.Held(ctx)
}

// onlyVersion is a service that knows one version, as AWSCURRENT.
type onlyVersion struct {
	mark

	secret  string
	version *secretVersion
}

func (o *onlyVersion) GetSecretValue(_ context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if stage := aws.ToString(in.VersionStage); stage != "" && stage != stageCurrent {
		return nil, &types.ResourceNotFoundException{}
	}
	return &secretsmanager.GetSecretValueOutput{
		Name: &o.secret, ARN: &o.secret, VersionId: &o.version.id, VersionStages: []string{stageCurrent}, SecretString: aws.String(o.version.text()),
	}, nil
}
