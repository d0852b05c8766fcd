// Package proxy is a TCP proxy that does to connections what networks do: delay
// them, reset them after some byte, swallow what is sent. Only tests import it.
package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A Fault is what happens to a connection. The zero Fault lets it pass.
type Fault struct {
	// Refuse resets the connection as soon as it is there.
	Refuse bool

	// Deaf accepts it and connects nowhere: what is sent is read, and nothing
	// ever answered.
	Deaf bool

	// Delay is how long each piece of data is kept back, either way.
	Delay time.Duration

	// ToServer and FromServer, if they are not nil, end what goes there.
	ToServer, FromServer *Cut
}

// A Cut ends a direction of a connection after so many bytes.
type Cut struct {
	After int

	// Reset resets both ends. Otherwise the connection stays open, and nothing
	// goes that way any more: a half-open connection.
	Reset bool
}

// Proxy is a proxy on a port of 127.0.0.1. All methods may be called concurrently.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu       sync.Mutex // protects following
	fault    func(n int) Fault
	conns    map[net.Conn]bool
	accepted int
	sent     bytes.Buffer  // by all clients
	forgets  bool          // what they send
	received int           // by all clients, bytes
	held     chan struct{} // closed when data may go on; nil: it may
	lag      time.Duration
	closed   bool
}

// New returns a proxy to the address. Close it.
func New(target string) (*Proxy, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, fault: func(int) Fault { return Fault{} }, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.serve)
	return p, nil
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port returns the port of the proxy.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Set has f happen to all connections that are accepted from now on.
func (p *Proxy) Set(f Fault) { p.Each(func(int) Fault { return f }) }

// Each asks f what is to happen to each connection that is accepted from now on,
// of which the first is number 0.
func (p *Proxy) Each(f func(n int) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.accepted
	p.fault = func(n int) Fault { return f(n - first) }
}

// Accepted returns how many connections there were.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Sent returns a copy of what all clients have sent.
func (p *Proxy) Sent() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.sent.Bytes())
}

// Received returns how many bytes all clients were sent.
func (p *Proxy) Received() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.received
}

// Drop resets all connections that are open.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		reset(conn)
	}
}

// Hold has nothing arrive any more, either way and on all connections, those that are
// open included, until Release: as where packets are lost, of which what sent them does
// not hear, and sends them again.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil && !p.closed {
		p.held = make(chan struct{})
	}
}

// Release has arrive what [Proxy.Hold] holds back, and all that follows.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// Lag keeps each piece of data back for d from now on, either way and on all
// connections, those that are open included; zero ends that. It comes to [Fault.Delay].
func (p *Proxy) Lag(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lag = d
}

// Forget has p keep no copy of what clients send: for one that runs for hours.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgets = true
	p.sent = bytes.Buffer{}
}

// Close ends the proxy and all of its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Release()
	_ = p.listener.Close()
	p.Drop()
	p.wg.Wait()
}

func (p *Proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		f := p.fault(p.accepted)
		p.accepted++
		p.mu.Unlock()
		p.wg.Go(func() { p.handle(conn, f) })
	}
}

// keep takes note of a connection, so that it can be dropped. It reports false, and
// drops it, if it is too late for it.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		reset(conn)
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

func (p *Proxy) handle(client net.Conn, f Fault) {
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	switch {
	case f.Refuse:
		reset(client)
		return
	case f.Deaf:
		p.copy(io.Discard, client, &Fault{}, nil, p.toServer)
		return
	}
	var d net.Dialer
	server, err := d.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		reset(client) // as the server's own machine would
		return
	}
	if !p.keep(server) {
		return
	}
	defer p.forget(server)
	both := func() { reset(client); reset(server) }
	var wg sync.WaitGroup
	wg.Go(func() {
		p.copy(server, client, &f, f.ToServer, p.toServer)
		if f.ToServer != nil && f.ToServer.Reset {
			both()
		}
		closeWrite(server)
	})
	wg.Go(func() {
		p.copy(client, server, &f, f.FromServer, p.fromServer)
		if f.FromServer != nil && f.FromServer.Reset {
			both()
		}
		closeWrite(client)
	})
	wg.Wait()
}

func (p *Proxy) toServer(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.forgets {
		p.sent.Write(b)
	}
}

func (p *Proxy) fromServer(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received += len(b)
}

// travel returns when data that has been read may arrive.
func (p *Proxy) travel(delay time.Duration) {
	p.mu.Lock()
	held := p.held
	delay += p.lag
	p.mu.Unlock()
	if held != nil {
		<-held
	}
	if delay > 0 {
		time.Sleep(delay)
	}
}

// copy copies until an end, or a cut that resets. After one that does not it reads on
// and writes no more.
func (p *Proxy) copy(to io.Writer, from net.Conn, f *Fault, cut *Cut, record func([]byte)) {
	buf := make([]byte, 32<<10)
	total := 0
	for {
		n, err := from.Read(buf)
		data := buf[:n]
		if cut != nil && total+n >= cut.After {
			data = data[:max(0, cut.After-total)]
		}
		total += n
		if len(data) > 0 {
			p.travel(f.Delay)
			record(data)
			if _, err := to.Write(data); err != nil {
				return
			}
		}
		if err != nil || cut != nil && cut.Reset && total >= cut.After {
			return
		}
	}
}

// reset closes a connection so that its other end sees a reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func closeWrite(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
