package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
)

// A wire is the network connection under one of the driver's. By it the driver
// learns that its connection is to retire: it looks at the socket when the
// connection is taken from the pool, and discards it if there is an error. Nothing
// is wrapped that a user of the driver gets to see.
type wire struct {
	net.Conn
	credentials dbconn.Credentials
	guard       *guard // nil: none
}

// A dialFunc is what [mysql.Config] dials with.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// wireKey is where the context of a login has its wire: the driver passes that
// context on when it dials.
type wireKey struct{}

var errRetired = errors.New("mysql: this connection makes room for one with a newer version of the secret")

// dialWires has the connection of each login go through its wire, and reports
// whether it can: what a program has registered with the driver for a network of its
// own is out of reach.
func dialWires(cfg *mysql.Config, server address) bool {
	inner := cfg.DialFunc
	if inner == nil {
		if !server.isTCP() && server.network != "unix" {
			return false
		}
		inner = dialNetwork
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		w := ctx.Value(wireKey{}).(*wire)
		if err := w.dial(ctx, inner, network, addr); err != nil {
			return nil, err // not a net.Conn that holds one that is nil
		}
		return w, nil
	}
	return true
}

// dial opens the connection.
func (w *wire) dial(ctx context.Context, inner dialFunc, network, addr string) error {
	at := w.credentials.Address
	if at.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, at.Wait)
		defer cancel()
	}
	conn, err := inner(ctx, network, cmp.Or(at.Addr, addr))
	switch {
	case err == nil:
	case (errors.Is(err, os.ErrDeadlineExceeded) || overLimit(ctx)) && !errors.Is(err, context.DeadlineExceeded):
		// The network has looked at the context's deadline itself, and was
		// there before the context; or at a context made from a limited one.
		return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	default:
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(true) // which the driver cannot do any more
	}
	w.Conn = conn
	return nil
}

// dialer has no settings of its own, as the driver's: the time of a login is bounded as a whole.
var dialer net.Dialer

func dialNetwork(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialer.DialContext(undated{ctx}, network, addr)
}

// undated is a context that does not say when it ends. A [net.Dialer] that is told
// sets a timer of its own, beside that of the context, and looks up no sooner for it.
type undated struct{ context.Context }

// Deadline implements [context.Context].
func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// Read implements [net.Conn].
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.guard != nil && !w.guard.permits(p[:n]) {
		return 0, errOffered
	}
	return n, err
}

// SyscallConn implements [syscall.Conn].
func (w *wire) SyscallConn() (syscall.RawConn, error) {
	if w.credentials.Retired() {
		return nil, errRetired
	}
	if conn, ok := w.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return unknown{}, nil
}

// unknown stands for the socket of a connection that does not show it. The driver
// takes such a connection to be alive.
type unknown struct{}

func (unknown) Control(func(uintptr)) error    { return nil }
func (unknown) Read(func(uintptr) bool) error  { return nil }
func (unknown) Write(func(uintptr) bool) error { return nil }

// quiet is the driver's logger without what it says of connections that retire: to
// it they are bad.
type quiet struct{ mysql.Logger }

// Print implements [mysql.Logger].
func (q quiet) Print(v ...any) {
	if !slices.Contains(v, any(errRetired)) {
		q.Logger.Print(v...)
	}
}
