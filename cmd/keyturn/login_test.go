package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/pgserver"
)

// A server is a real one.
type server interface {
	Host() string
	Port() int
	CreateUser(ctx context.Context, name, password string) error
	SetPassword(ctx context.Context, name, password string) error
	FailedLogins(user string) (int, error)
	Stop() error
}

// The servers are started once a test wants them, and stopped by TestMain.
var (
	started  []server
	postgres = sync.OnceValues(func() (server, error) { return start(pgserver.Start(context.Background(), nil)) })
	mariadb  = sync.OnceValues(func() (server, error) {
		return start(mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.MariaDB}))
	})
	users atomic.Int64
)

func start[S server](s S, err error) (server, error) {
	if err != nil {
		return nil, err
	}
	started = append(started, s)
	return s, nil
}

func stopServers() {
	for _, s := range started {
		_ = s.Stop()
	}
}

// A patient is a doctor's secret with a real user behind it.
type patient struct {
	*doctor

	db     server
	engine string
	user   string
	extra  map[string]any // further fields of the secret
}

// engines are the servers that the tests of logins run on.
var engines = map[string]func() (server, error){"postgres": postgres, "mariadb": mariadb}

func newPatient(t *testing.T, engine string) *patient {
	t.Helper()
	db, err := engines[engine]()
	if err != nil {
		t.Fatal(err)
	}
	p := &patient{newDoctor(t, nil), db, engine, fmt.Sprintf("app%d", users.Add(1)), nil}
	if err := db.CreateUser(t.Context(), p.user, sentinel+"-one"); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *patient) value(password string) string {
	p.Helper()
	fields := map[string]any{
		"engine": p.engine, "host": p.db.Host(), "port": p.db.Port(), "username": p.user, "password": sentinel + password, "dbname": p.user,
	}
	maps.Copy(fields, p.extra)
	text, err := json.Marshal(fields)
	if err != nil {
		p.Fatal(err)
	}
	return string(text)
}

func (p *patient) set(password string) {
	p.Helper()
	if err := p.db.SetPassword(p.Context(), p.user, sentinel+password); err != nil {
		p.Fatal(err)
	}
}

// failures is how many logins the server has refused since this was last asked.
func (p *patient) failures(want int) {
	p.Helper()
	n, err := p.db.FailedLogins(p.user)
	if err != nil {
		p.Fatal(err)
	}
	if n != want {
		p.Errorf("%d logins were refused, want %d", n, want)
	}
}

// apply carries out the commands of a fix that move labels, as the AWS CLI would.
func (p *patient) apply(fix string) {
	p.Helper()
	for line := range strings.SplitSeq(fix, "\n") {
		words := strings.Fields(line)
		if !strings.HasPrefix(line, "  aws secretsmanager update-secret-version-stage ") {
			continue
		}
		in := &secretsmanager.UpdateSecretVersionStageInput{}
		for i := 3; i+1 < len(words); i += 2 {
			switch value := aws.String(words[i+1]); words[i] {
			case "--secret-id":
				in.SecretId = value
			case "--version-stage":
				in.VersionStage = value
			case "--move-to-version-id":
				in.MoveToVersionId = value
			case "--remove-from-version-id":
				in.RemoveFromVersionId = value
			}
		}
		if _, err := p.srv.Client().UpdateSecretVersionStage(p.Context(), in); err != nil {
			p.Errorf("%s: %v", line, err)
		}
	}
}

func onEach(t *testing.T, f func(*testing.T, *patient)) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) { f(t, newPatient(t, engine)) })
	}
}

// A rotation of a single user has got as far as setSecret.
func TestLoginInTheWindow(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.srv.Put("prod/db", p.value("-one"))
		pending := p.srv.StartRotation("prod/db", p.value("-two"))
		p.set("-two")
		all := p.check(1, "-login", "prod/db")
		p.want(all, "login", "problem", "AWSCURRENT is refused", p.user)
		p.want(all, "login", "ok", "AWSPENDING logs in on the server", p.user)
		f := p.want(all, "stuck", "problem", "the window of the rotation is open", "rotation.Handler.Rotate", "do not take AWSPENDING off before that")
		if f.Version != pending {
			p.Errorf("it is about version %q, want %s", f.Version, pending)
		}
		p.failures(1)

		// What it says does end it, and then AWSPREVIOUS costs no failed login.
		p.apply(f.Fix)
		all = p.check(0, "-login", "prod/db")
		p.want(all, "login", "ok", "AWSCURRENT logs in")
		p.want(all, "login", "note", "AWSPREVIOUS not tried")
		p.want(all, "stuck", "ok")
		p.failures(1)
	})
}

// With a rotation function the same is said of RotateSecret.
func TestLoginInTheWindowOfAFunction(t *testing.T) {
	p := newPatient(t, "postgres")
	p.srv.Put("prod/db", p.value("-one"))
	p.srv.AddFunction(function, p.srv.KeepValue())
	p.rotate()
	if err := p.srv.Wait(t.Context(), "prod/db"); err != nil {
		t.Fatal(err)
	}
	p.srv.StartRotation("prod/db", p.value("-two"))
	p.set("-two")
	p.want(p.check(1, "-login", "prod/db"), "stuck", "problem", "the window of the rotation is open",
		"  aws secretsmanager rotate-secret --secret-id prod/db --region us-east-1", "  aws logs tail /aws/lambda/rotate-db")
	p.failures(1) // AWSPREVIOUS, a copy of AWSCURRENT, is not tried
}

func TestLoginBeforeTheWindow(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.srv.Put("prod/db", p.value("-one"))
		p.srv.StartRotation("prod/db", p.value("-two"))
		all := p.check(0, "-login", "prod/db")
		p.want(all, "login", "ok", "AWSCURRENT logs in")
		p.want(all, "login", "note", "AWSPENDING is refused")
		f := p.want(all, "stuck", "note", "setSecret was not carried out", "safe")
		p.apply(f.Fix)
		p.want(p.check(0, "-login", "prod/db"), "stuck", "ok")
		p.failures(1)
	})
}

// AWSPENDING was taken off the version whose password the database has.
func TestLoginUnlabelled(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.srv.Put("prod/db", p.value("-one"))
		p.srv.StartRotation("prod/db", p.value("-two"))
		p.set("-two")
		lost := p.srv.AbandonRotation("prod/db")
		all := p.check(1, "-login", "prod/db")
		p.want(all, "login", "ok", "a version without a label logs in")
		f := p.want(all, "stuck", "problem", "AWSPENDING was taken off it")
		if f.Version != lost {
			p.Errorf("it is about version %q, want %s", f.Version, lost)
		}
		p.apply(f.Fix)
		p.want(p.check(0, "-login", "prod/db"), "stuck", "ok")
		p.failures(1)
	})
}

// Somebody has put a value that the database never got.
func TestLoginPrevious(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.srv.Put("prod/db", p.value("-one"))
		p.srv.Put("prod/db", p.value("-two"))
		f := p.want(p.check(1, "-login", "prod/db"), "stuck", "problem", "accepts AWSPREVIOUS")
		p.apply(f.Fix)
		p.want(p.check(0, "-login", "prod/db"), "stuck", "ok")
		p.failures(1)
	})
}

func TestLoginLockedOut(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		for _, password := range []string{"-a", "-b", "-c", "-d", "-e", "-f", "-g"} {
			p.srv.Put("prod/db", p.value(password))
		}
		p.want(p.check(1, "-login", "prod/db"), "stuck", "problem", "locked out", "as an administrator")
		p.failures(5) // AWSCURRENT, AWSPREVIOUS, and three without a label
	})
}

// One password is tried once, whichever versions have it.
func TestLoginOfACopy(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.srv.Put("prod/db", p.value("-two"))
		p.srv.StartRotation("prod/db", p.value("-two"))
		all := p.check(1, "-login", "prod/db")
		p.want(all, "login", "note", "AWSPENDING not tried: it is a copy of AWSCURRENT")
		p.want(all, "stuck", "problem", "locked out")
		p.failures(1)
	})
}

// What the server says besides a refusal is a problem, and ends the logins there.
func TestLoginAnswered(t *testing.T) {
	onEach(t, func(_ *testing.T, p *patient) {
		p.extra = map[string]any{"dbname": "nowhere"}
		p.srv.Put("prod/db", p.value("-one"))
		p.srv.StartRotation("prod/db", p.value("-two"))
		all := p.check(1, "-login", "prod/db")
		p.want(all, "login", "problem", "AWSCURRENT does not log in", "dbname")
		for _, f := range all {
			if f.Check == "login" && strings.Contains(f.Detail, "AWSPENDING") {
				p.Errorf("another login was made: %+v", f)
			}
		}
		p.failures(0)
	})
}

func TestLoginLockedAccount(t *testing.T) {
	p := newPatient(t, "mariadb")
	if _, err := p.db.(*mysqlserver.Server).Admin().ExecContext(t.Context(), "ALTER USER '"+p.user+"'@'%' ACCOUNT LOCK"); err != nil {
		t.Fatal(err)
	}
	p.srv.Put("prod/db", p.value("-one"))
	p.want(p.check(1, "-login", "prod/db"), "login", "problem", "ACCOUNT UNLOCK")
}

// A replica that has not heard of AWSPENDING, one that is not there, and the secret's
// own list of them.
func TestLoginReplicas(t *testing.T) {
	p := newPatient(t, "postgres")
	lagging, err := start(pgserver.Start(t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := lagging.CreateUser(t.Context(), p.user, sentinel+"-one"); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s:%d", lagging.Host(), lagging.Port())
	p.extra = map[string]any{"replicas": []string{name}}
	p.srv.Put("prod/db", p.value("-one"))
	p.srv.StartRotation("prod/db", p.value("-two"))
	p.set("-two")
	all := p.check(1, "-login", "-replica", "127.0.0.1:1", "-replica", "replica.invalid:5432", "prod/db")
	p.want(all, "login", "ok", "AWSCURRENT logs in on the replica", name)
	p.want(all, "login", "note", "AWSPENDING is refused", name)
	p.want(all, "login", "unknown", "AWSCURRENT, no verdict", "127.0.0.1:1: ", "in the VPC")
	p.want(all, "login", "unknown", "AWSCURRENT, no verdict", "replica.invalid")
	if f := p.want(all, "stuck", "problem", "the window of the rotation is open", "AWSPENDING is refused on "+name); strings.Contains(f.Fix, "update-secret-version-stage") {
		p.Errorf("the fix would move AWSCURRENT to a version that a replica refuses: %s", f.Fix)
	}

	// The rotation has ended, and that one still lags.
	p.srv.FinishRotation("prod/db")
	all = p.check(1, "-login", "prod/db")
	p.want(all, "login", "ok", "AWSPREVIOUS logs in on the replica", name)
	p.want(all, "stuck", "problem", "AWSCURRENT is refused on "+name)
}

// Nothing to log in with, or nowhere to.
func TestLoginImpossible(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		exit  int
		want  string
	}{
		"no database":    {sentinel, 3, "not a database secret"},
		"no host":        {`{"engine":"postgres","username":"app","password":"` + sentinel + `"}`, 1, "names no host"},
		"another engine": {`{"engine":"oracle","host":"h","username":"app","password":"` + sentinel + `"}`, 3, "not for PostgreSQL"},
		"bad replicas":   {`{"engine":"mysql","host":"127.0.0.1","port":1,"username":"app","password":"` + sentinel + `","replicas":"` + sentinel + `"}`, 3, `"replicas"`},
		"nobody there":   {`{"engine":"mysql","host":"127.0.0.1","port":1,"username":"app","password":"` + sentinel + `"}`, 3, "no verdict"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoctor(t, nil)
			d.srv.Put("prod/db", test.value)
			d.want(d.check(test.exit, "-login", "prod/db"), "login", "unknown", test.want)
		})
	}
}
