package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/dbconn"
)

// A chain tries the credentials of a secret inside one connect of pgx, which knows
// of no such thing, by its public hooks alone.
//
// pgx goes through a list of servers until one lets it in. The chain makes that
// list: every address several times over, one for each login that a [dbconn.Walk]
// may make, and one for its error. The hooks come in this order for each attempt:
//
//	DialFunc         asks the walk what to log in with, and waits if that says so
//	AfterNetConnect  puts it into the configuration, which pgx reads only later
//	OnPgError        tells the walk that the server refused, and has pgx go on
//	ValidateConnect  tells the walk that the server accepted
//
// and the tracer's TraceConnectEnd at the end of them all, whichever that is.
//
// pgx does not go on after a wrong password (28P01). So OnPgError gives the error
// another code (28000), of which pgx has no opinion, and the next DialFunc, when pgx
// has looked at it, gives it back its own.
//
// Should a version of pgx call the hooks in another order, an attempt fails that
// need not, with an error that says so; the next connect makes it good.
type chain struct {
	source  *dbconn.Source
	server  dbconn.Credentials // names the server
	user    hooks
	timeout time.Duration // of one attempt

	slots   []slot
	lookups []lookup                      // what LookupFunc answers, in this order
	over    atomic.Bool                   // the connection is open: the hooks are the user's again
	ctxDone <-chan struct{}               // Done of the context that pgx connects with; written by the first DialFunc
	at      int                           // the slot of the attempt under way
	refused bool                          // the server has refused a password over TLS
	passed  map[string]dbconn.Credentials // what servers accepted that pgx does not prefer, by address

	next     int                // the slot of the next DialFunc
	walk     *dbconn.Walk       // to the address of the attempt under way
	login    dbconn.Credentials // what Next returned last
	open     bool               // Done has not been called for it
	again    bool               // the server refused it: the next slot of the address is for another
	cfg      *pgconn.Config     // pgx's own for this connect, which has the password
	disguise *pgconn.PgError    // the error whose code was changed
}

// hooks are the user's own, which are called too.
type hooks struct {
	dial            pgconn.DialFunc
	lookup          pgconn.LookupFunc
	afterNetConnect func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)
	onPgError       pgconn.PgErrorHandler
	validateConnect pgconn.ValidateConnectFunc
	afterConnect    pgconn.AfterConnectFunc
	tracer          pgx.QueryTracer
}

// errSpent ends a slot that there is no use for.
var errSpent = errors.New("not tried again")

// connKey is where a connection keeps what [dbconn.Credentials.Retired] tells.
const connKey = "keyturn"

// install makes cc, which is pgx's copy for one connect, go through the chain.
func (ch *chain) install(ctx context.Context, cc *pgx.ConnConfig) error {
	ch.user = hooks{
		dial: cc.DialFunc, lookup: cc.LookupFunc, afterNetConnect: cc.AfterNetConnect,
		onPgError: cc.OnPgError, validateConnect: cc.ValidateConnect, afterConnect: cc.AfterConnect,
		tracer: cc.Tracer,
	}
	// pgx would count the waiting for other callers' verdicts as connecting.
	ch.timeout, cc.ConnectTimeout = cc.ConnectTimeout, 0
	if err := ch.lay(ctx, cc); err != nil {
		return err
	}
	cc.LookupFunc, cc.DialFunc = ch.lookup, ch.dial
	cc.AfterNetConnect, cc.OnPgError = ch.afterNetConnect, ch.onPgError
	cc.ValidateConnect, cc.AfterConnect = ch.validateConnect, ch.afterConnect
	cc.Tracer = &tracer{ch}
	return nil
}

// begin asks for what to log in with first, before pgx has begun: the error of a
// secret that cannot be read is then the caller's as it is.
func (ch *chain) begin(ctx context.Context) error {
	return ch.step(ctx, ch.slots[0].address)
}

// step begins a walk to the address, or goes one on.
func (ch *chain) step(ctx context.Context, address string) error {
	if ch.walk == nil {
		ch.walk = ch.source.Walk(ch.server, address)
	}
	login, err := ch.walk.Next(ctx)
	if err != nil {
		return err
	}
	ch.login, ch.open, ch.again = login, true, false
	return nil
}

// ended tells the walk how the login has ended, if it has not been told.
func (ch *chain) ended(ctx context.Context, err error) {
	if ch.open {
		ch.open = false
		ch.again = ch.walk.Done(ctx, err)
	}
}

// forget takes the password of an attempt that is over out of the configuration,
// which pgx's error has with it, and gives the server's error its own code back. The
// caller is one of pgx's hooks.
func (ch *chain) forget() {
	if ch.cfg != nil {
		ch.cfg.Password = ""
	}
	if ch.disguise != nil {
		ch.disguise.Code = invalidPassword
		ch.disguise = nil
	}
}

// dial is DialFunc: the beginning of an attempt, and the end of the one before it.
func (ch *chain) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if ch.ctxDone == nil {
		if ch.ctxDone = ctx.Done(); ch.ctxDone == nil {
			ch.ctxDone = make(chan struct{})
		}
	} else if done := ctx.Done(); done != nil && done != ch.ctxDone {
		// pgx sends a cancel request behind a login that has broken off: no
		// attempt of ours, and on another goroutine.
		return ch.user.dial(ctx, network, address)
	}
	if ch.over.Load() {
		return ch.user.dial(ctx, network, address) // to cancel a query
	}
	i := ch.next
	ch.next++
	ch.at = i
	ch.forget()
	switch {
	case i == 0 && ch.open: // begin has asked
	case i >= len(ch.slots):
		// pgx returns to a server that let it in, but that it does not prefer.
		if login, ok := ch.passed[address]; ok {
			ch.login = login
		}
	default:
		ch.ended(ctx, errSpent) // it may have ended in a way that has no hook
		if !ch.slots[i].first && !ch.again {
			return nil, errSpent
		}
		if ch.slots[i].clear && ch.refused {
			return nil, errSpent // what was refused over TLS is not sent in clear
		}
		if ch.slots[i].first {
			ch.walk = nil
		}
		if err := ch.step(ctx, address); err != nil {
			return nil, err
		}
	}
	return ch.connect(ctx, network, address)
}

// connect opens the network connection, with what is left of the time for the
// attempt as its deadline.
func (ch *chain) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if ch.timeout <= 0 {
		conn, err := ch.user.dial(ctx, network, address)
		if err != nil {
			ch.ended(ctx, err)
		}
		return conn, err
	}
	deadline := time.Now().Add(ch.timeout)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := ch.user.dial(bounded, network, address)
	if err == nil {
		if err = conn.SetDeadline(deadline); err != nil {
			_ = conn.Close()
		}
	}
	if err != nil {
		ch.ended(ctx, err)
		return nil, err
	}
	return conn, nil
}

func (ch *chain) afterNetConnect(ctx context.Context, cfg *pgconn.Config, conn net.Conn) (net.Conn, error) {
	if ch.user.afterNetConnect != nil {
		var err error
		if conn, err = ch.user.afterNetConnect(ctx, cfg, conn); err != nil {
			return conn, err
		}
	}
	ch.cfg = cfg
	cfg.User, cfg.Password = ch.login.Username, ch.login.Password()
	return conn, nil
}

func (ch *chain) onPgError(conn *pgconn.PgConn, e *pgconn.PgError) bool {
	goOn := ch.user.onPgError == nil || ch.user.onPgError(conn, e)
	if ch.over.Load() {
		return goOn
	}
	// Of its own: e is about to change, and an event may be read any time.
	told := *e
	ch.ended(context.Background(), &told)
	ch.forget()
	ch.refused = ch.refused || refused(&told) && ch.at < len(ch.slots) && !ch.slots[ch.at].clear
	if ch.again && e.Code == invalidPassword {
		ch.disguise = e
		e.Code = invalidAuthorization
		return false
	}
	return goOn
}

func (ch *chain) validateConnect(ctx context.Context, conn *pgconn.PgConn) error {
	ch.ended(ctx, nil)
	conn.CustomData()[connKey] = ch.login
	if ch.user.validateConnect == nil {
		return nil
	}
	err := ch.user.validateConnect(ctx, conn)
	if err != nil && ch.at < len(ch.slots) {
		if ch.passed == nil {
			ch.passed = make(map[string]dbconn.Credentials)
		}
		ch.passed[ch.slots[ch.at].address] = ch.login
	}
	return err
}

func (ch *chain) afterConnect(ctx context.Context, conn *pgconn.PgConn) error {
	ch.over.Store(true)
	err := conn.Conn().SetDeadline(time.Time{})
	if err == nil && ch.user.afterConnect != nil {
		err = ch.user.afterConnect(ctx, conn)
	}
	return err
}
