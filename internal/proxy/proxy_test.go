package proxy_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/proxy"
)

// echo starts a server that sends back what it gets, and a proxy to it.
func echo(t *testing.T) *proxy.Proxy {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // It takes no time.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	p, err := proxy.New(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// say sends hello through the proxy and returns what comes back, before an end or
// half a second's silence.
func say(t *testing.T, p *proxy.Proxy) (string, error) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", p.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	b := make([]byte, 5)
	n, err := io.ReadFull(conn, b)
	return string(b[:n]), err
}

func TestProxy(t *testing.T) {
	timeout := func(err error) bool {
		netErr, ok := errors.AsType[net.Error](err)
		return ok && netErr.Timeout()
	}
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) }
	for _, test := range []struct {
		name  string
		fault proxy.Fault
		want  string
		err   func(error) bool
	}{
		{"pass", proxy.Fault{}, "hello", func(err error) bool { return err == nil }},
		{"delay", proxy.Fault{Delay: 10 * time.Millisecond}, "hello", func(err error) bool { return err == nil }},
		{"refuse", proxy.Fault{Refuse: true}, "", reset},
		{"deaf", proxy.Fault{Deaf: true}, "", timeout},
		{"cut to the server", proxy.Fault{ToServer: &proxy.Cut{After: 3}}, "hel", timeout},
		{"cut from the server", proxy.Fault{FromServer: &proxy.Cut{After: 2}}, "he", timeout},
		{"cut from the server at once", proxy.Fault{FromServer: &proxy.Cut{}}, "", timeout},
		{"reset before the server", proxy.Fault{ToServer: &proxy.Cut{After: 1, Reset: true}}, "", reset},
	} {
		p := echo(t)
		p.Set(test.fault)
		got, err := say(t, p)
		if got != test.want || !test.err(err) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	p := echo(t)
	p.Each(func(n int) proxy.Fault { return proxy.Fault{Refuse: n == 1} })
	for i, want := range []string{"hello", "", "hello"} {
		if got, _ := say(t, p); got != want {
			t.Errorf("connection %d: %q", i, got)
		}
	}
	if sent := string(p.Sent()); !strings.HasPrefix(sent, "hellohello") || p.Received() != 10 || p.Accepted() != 3 {
		t.Errorf("sent %q, received %d bytes, %d connections", sent, p.Received(), p.Accepted())
	}
}

// What is held back on an open connection arrives later; what lags comes late.
func TestOpenConnections(t *testing.T) {
	p := echo(t)
	p.Forget()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write := func() {
		t.Helper()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	read := func(limit time.Duration) error {
		_ = conn.SetReadDeadline(time.Now().Add(limit))
		_, err := io.ReadFull(conn, make([]byte, 5))
		return err
	}
	write()
	if err := read(time.Minute); err != nil {
		t.Fatal(err)
	}
	p.Hold()
	p.Hold()
	write()
	if err := read(100 * time.Millisecond); err == nil {
		t.Error("it arrives though it is held back")
	}
	p.Release()
	p.Release()
	if err := read(time.Minute); err != nil {
		t.Errorf("it does not arrive after that: %v", err)
	}
	const lag = 50 * time.Millisecond
	p.Lag(lag)
	began := time.Now()
	write()
	if err := read(time.Minute); err != nil || time.Since(began) < 2*lag {
		t.Errorf("there and back after %v: %v", time.Since(began), err)
	}
	if n := len(p.Sent()); n != 0 || p.Received() != 15 {
		t.Errorf("%d bytes are remembered, %d received", n, p.Received())
	}
	p.Hold()
	write()
	p.Close() // does not wait for what is held back
}
