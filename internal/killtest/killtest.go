// Package killtest ends a process at every moment there is, in a test: without a
// process. What is left behind is what a killed one leaves: calls that had their
// effect or had not, connections that the kernel closed. Only tests import it.
package killtest

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
)

// ErrKilled is what everything returns after the end.
var ErrKilled = errors.New("killed")

// Life is that of a process: it ends at the n-th tick, and nothing that the
// process would still do happens after that. The zero Life does not end, nor does
// a nil one. All methods may be called concurrently.
type Life struct {
	// Ignore says which messages to a server are no moments to die at: those that
	// leave nothing behind there. Not to be changed during a life. nil: none.
	Ignore func(message []byte) bool

	mu    sync.Mutex // protects following
	left  int        // 0: for ever
	dead  bool
	conns map[net.Conn]bool
}

// Begin gives a new life, which ends at the n-th tick; never, if n is 0.
func (l *Life) Begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.dead = n, false
}

// Over reports whether it has ended.
func (l *Life) Over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// Tick is a moment at which it may end.
func (l *Life) Tick() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 {
		if l.left--; l.left == 0 {
			l.dead = true
			for c := range l.conns { // as the kernel does
				_ = c.Close()
			}
			l.conns = nil
		}
	}
	if l.dead {
		return ErrKilled
	}
	return nil
}

// Dial opens a connection on which each message to the server is a moment to die
// before, and one to die after. The answer to the last message is not waited for.
func (l *Life) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := l.Tick(); err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = make(map[net.Conn]bool)
	}
	l.conns[conn] = true
	return &mortalConn{conn, l}, nil
}

type mortalConn struct {
	net.Conn

	life *Life
}

func (c *mortalConn) Write(b []byte) (int, error) {
	if c.life.Ignore != nil && c.life.Ignore(b) {
		return c.Conn.Write(b) // it is closed if the life is over
	}
	if err := c.life.Tick(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		return n, err
	}
	return n, c.life.Tick()
}

func (c *mortalConn) Close() error {
	c.life.mu.Lock()
	delete(c.life.conns, c.Conn)
	c.life.mu.Unlock()
	return c.Conn.Close()
}

// Client is a client whose process dies before a call, or after its effect. It has
// the methods that a rotation cannot do without, and no others.
type Client struct {
	rotation.API

	Life *Life
}

var _ rotation.API = Client{}

type apiCall[In, Out any] = func(context.Context, *In, ...func(*secretsmanager.Options)) (*Out, error)

func mortal[In, Out any](ctx context.Context, l *Life, in *In, call apiCall[In, Out]) (*Out, error) {
	if err := l.Tick(); err != nil {
		return nil, err
	}
	out, err := call(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := l.Tick(); err != nil {
		return nil, err
	}
	return out, nil
}

// DescribeSecret is that of the client.
func (c Client) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	return mortal(ctx, c.Life, in, c.API.DescribeSecret)
}

// GetSecretValue is that of the client.
func (c Client) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return mortal(ctx, c.Life, in, c.API.GetSecretValue)
}

// PutSecretValue is that of the client.
func (c Client) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	return mortal(ctx, c.Life, in, c.API.PutSecretValue)
}

// UpdateSecretVersionStage is that of the client.
func (c Client) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	return mortal(ctx, c.Life, in, c.API.UpdateSecretVersionStage)
}

// GetRandomPassword is that of the client.
func (c Client) GetRandomPassword(ctx context.Context, in *secretsmanager.GetRandomPasswordInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetRandomPasswordOutput, error) {
	return mortal(ctx, c.Life, in, c.API.GetRandomPassword)
}
