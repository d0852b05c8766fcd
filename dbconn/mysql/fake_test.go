package mysql_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/testcert"
)

// An impostor answers in the place of a server and is after the password. It has
// no TLS, and records all that it gets.
type impostor struct {
	listener net.Listener
	key      *rsa.PrivateKey // its own
	plugin   string          // that it greets with
	script   func(*script)   // what it says after the client's answer

	wg  sync.WaitGroup
	mu  sync.Mutex // protects following
	got bytes.Buffer
}

// challenge is what the client mixes into its answers.
var challenge = []byte("abcdefghijklmnopqrst")

func newImpostor(t *testing.T, plugin string, what func(*script)) *impostor {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{listener: listener, key: key, plugin: plugin, script: what}
	i.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			i.serve(conn)
		}
	})
	t.Cleanup(i.stop)
	return i
}

func (i *impostor) stop() {
	_ = i.listener.Close()
	i.wg.Wait()
}

// recorded returns what clients have sent.
func (i *impostor) recorded() []byte {
	i.stop()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.got.Bytes()
}

// dial is a dial function that goes to the impostor, wherever it is asked to go.
func (i *impostor) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", i.listener.Addr().String())
}

func (i *impostor) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // of a test that is broken
	s := &script{impostor: i, conn: conn}
	// Protocol 10, all capabilities but TLS and compression. Source:
	// "Protocol::HandshakeV10" in the MySQL Source Code Documentation.
	const capabilities = 1<<0 | 1<<2 | 1<<3 | 1<<9 | 1<<13 | 1<<15 | 1<<19 | 1<<20 | 1<<21 | 1<<24
	greeting := append([]byte{10}, "9.0.0\x00\x01\x00\x00\x00"...)
	greeting = append(greeting, challenge[:8]...)
	greeting = append(greeting, 0, byte(capabilities&0xff), byte(capabilities>>8&0xff), 45, 2, 0, byte(capabilities>>16&0xff), byte(capabilities>>24&0xff), 21)
	greeting = append(greeting, make([]byte, 10)...)
	greeting = append(greeting, challenge[8:]...)
	greeting = append(greeting, 0)
	greeting = append(greeting, i.plugin+"\x00"...)
	s.send(greeting)
	if s.receive() == nil {
		return
	}
	i.script(s)
	s.send(append([]byte{0xff, 1105 & 0xff, 1105 >> 8}, "#HY000enough"...))
	for s.receive() != nil { // also what the client says to all of this
	}
}

// A script is the impostor's side of one login.
type script struct {
	*impostor
	conn   net.Conn
	number byte
}

func (s *script) send(payload []byte) {
	n := len(payload)
	_, _ = s.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), s.number}, payload...))
	s.number++
}

// receive returns the client's next packet, or nil.
func (s *script) receive() []byte {
	var header [4]byte
	if _, err := io.ReadFull(s.conn, header[:]); err != nil {
		return nil
	}
	s.number = header[3] + 1
	payload := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	if _, err := io.ReadFull(s.conn, payload); err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got.Write(payload)
	return payload
}

func (s *script) switchTo(plugin string) {
	s.send(append(append([]byte{0xfe}, plugin+"\x00"...), append(bytes.Clone(challenge), 0)...))
}

func (s *script) more(data []byte) { s.send(append([]byte{1}, data...)) }
func (s *script) fullAuth()        { s.more([]byte{4}) }

// offerKey offers the impostor's key and takes what comes back.
func (s *script) offerKey() {
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		panic(err)
	}
	s.more(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	s.receive()
}

// learned reports whether the password can be had from what was recorded.
func (i *impostor) learned(password string) bool {
	got := i.recorded()
	if bytes.Contains(got, []byte(password)) {
		return true
	}
	size := i.key.Size()
	for from := 0; from+size <= len(got); from++ {
		plain, err := rsa.DecryptOAEP(sha1.New(), nil, i.key, got[from:from+size], nil)
		if err != nil {
			continue
		}
		for n := range plain {
			plain[n] ^= challenge[n%len(challenge)]
		}
		if strings.TrimRight(string(plain), "\x00") == password {
			return true
		}
	}
	return false
}

// What a server may do to get at a password, and what it gets.
func TestImpostor(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pinned := &other.PublicKey
	fullAuth := func(s *script) {
		s.fullAuth()
		if answer := s.receive(); len(answer) == 1 && answer[0] == 2 { // it asks for the key
			s.offerKey()
		}
	}
	switchTo := func(plugin string) func(*script) {
		return func(s *script) {
			s.switchTo(plugin)
			if answer := s.receive(); len(answer) == 1 && answer[0] == 1 {
				s.offerKey()
			}
		}
	}
	// It has the client's answer, and offers its key all the same.
	insist := func(s *script) {
		s.switchTo("sha256_password")
		s.receive()
		s.offerKey()
	}
	// The packet before the key is so long that it goes on in a second one, which
	// looks like the end of the login.
	hide := func(s *script) {
		s.send(append(append([]byte{0xfe}, "sha256_password\x00"...), bytes.Repeat([]byte{1}, 1<<24-1-17)...))
		s.send(append([]byte{0}, challenge...))
		s.receive()
		s.offerKey()
	}
	const caching, native, sha256 = "caching_sha2_password", "mysql_native_password", "sha256_password"
	tests := []struct {
		name   string
		plugin string
		script func(*script)
		host   string // default: testcert.Name
		tls    string
		key    *rsa.PublicKey
		change func(*godriver.Config)
		want   string // in the error; default: the impostor's own
		learns bool
		silent bool // it gets nothing at all
	}{
		// So that it is known that it would learn it, if it could.
		{name: "on loopback, full authentication", plugin: caching, script: fullAuth, host: "127.0.0.1", learns: true},
		{name: "on loopback, sha256_password", plugin: native, script: switchTo(sha256), host: "127.0.0.1", learns: true},
		{name: "on loopback, clear text allowed", plugin: native, script: switchTo("mysql_clear_password"), host: "127.0.0.1", change: func(c *godriver.Config) { c.AllowCleartextPasswords = true }, learns: true},

		{name: "no TLS offered", plugin: caching, script: fullAuth, want: godriver.ErrNoTLS.Error(), silent: true},
		{name: "no TLS offered, said true", plugin: caching, script: fullAuth, tls: "true", want: godriver.ErrNoTLS.Error(), silent: true},
		{name: "no TLS offered, said skip-verify", plugin: caching, script: fullAuth, tls: "skip-verify", want: godriver.ErrNoTLS.Error(), silent: true},
		{name: "no TLS offered, preferred", plugin: caching, script: fullAuth, tls: "preferred", want: "goes on in clear text", silent: true},
		{name: "no TLS offered, preferred on loopback", plugin: caching, script: fullAuth, host: "127.0.0.1", tls: "preferred", learns: true},

		{name: "full authentication", plugin: caching, script: fullAuth, tls: "false", want: "there is no TLS (tls=false), nor a public key"},
		{name: "full authentication after a switch", plugin: native, script: func(s *script) { s.switchTo(caching); s.receive(); fullAuth(s) }, tls: "false", want: "there is no TLS (tls=false), nor a public key"},
		{name: "sha256_password", plugin: sha256, script: func(s *script) { s.offerKey() }, tls: "false"},
		{name: "sha256_password after a switch", plugin: native, script: switchTo(sha256), tls: "false", want: "there is no TLS (tls=false), nor a public key"},
		{name: "sha256_password twice", plugin: sha256, script: switchTo(sha256), tls: "false", want: "there is no TLS (tls=false), nor a public key"},
		{name: "clear text", plugin: native, script: switchTo("mysql_clear_password"), tls: "false", want: godriver.ErrCleartextPassword.Error()},
		{name: "clear text at once", plugin: "mysql_clear_password", script: func(s *script) { s.fullAuth(); s.receive() }, tls: "false"},
		{name: "old passwords", plugin: native, script: switchTo("mysql_old_password"), tls: "false", want: godriver.ErrOldPassword.Error()},

		{name: "a key, full authentication", plugin: caching, script: fullAuth, tls: "false", key: pinned},
		{name: "a key, and another unasked for", plugin: caching, script: func(s *script) { s.offerKey() }, tls: "false", key: pinned, want: "in the place of the one that is known"},
		{name: "a key, and another after full authentication", plugin: caching, script: func(s *script) { s.fullAuth(); s.receive(); s.offerKey() }, tls: "false", key: pinned, want: "in the place of the one that is known"},
		{name: "a key, and another for sha256_password", plugin: native, script: insist, tls: "false", key: pinned, want: "in the place of the one that is known"},
		{name: "a key, and another for sha256_password at once", plugin: sha256, script: func(s *script) { s.offerKey() }, tls: "false", key: pinned, want: "in the place of the one that is known"},
		{name: "a key, and another behind a long packet", plugin: native, script: hide, tls: "false", key: pinned, want: "in the place of the one that is known"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			const password = "s3nt!nel-Pa55w0rd"
			i := newImpostor(t, test.plugin, test.script)
			host := test.host
			if host == "" {
				host = testcert.Name
			}
			_, c := newCache(t, `{"username":"u","password":"`+password+`","host":"`+host+`"}`)
			cfg := config(func(c *godriver.Config) {
				c.DialFunc, c.TLSConfig, c.Logger = i.dial, test.tls, &godriver.NopLogger{}
				if test.change != nil {
					test.change(c)
				}
			})
			db, err := mysql.OpenDB(c, "prod/db", &mysql.Options{Config: cfg, ServerPubKey: test.key})
			if err != nil {
				t.Fatal(err)
			}
			err = db.PingContext(t.Context())
			_ = db.Close()
			if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), cmp.Or(test.want, "Error 1105 (HY000): enough")) {
				t.Errorf("Ping: %v, want %q", err, test.want)
			}
			if learns := i.learned(password); learns != test.learns {
				t.Errorf("the password is learned: %t, want %t", learns, test.learns)
			}
			if got := i.recorded(); test.silent && len(got) > 0 {
				t.Errorf("%d bytes were sent, want none", len(got))
			}
		})
	}
}

// What [mysql.Options.ServerPubKey] is guarded against: the driver alone, which has
// the server's key, encrypts the password with the impostor's. Should this fail, the
// driver has become wiser and the guard can go.
func TestDriverTakesAnotherKey(t *testing.T) {
	const password = "s3nt!nel-Pa55w0rd"
	known, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	godriver.RegisterServerPubKey("known", &known.PublicKey)
	defer godriver.DeregisterServerPubKey("known")
	i := newImpostor(t, "mysql_native_password", func(s *script) {
		s.switchTo("sha256_password")
		s.receive()
		s.offerKey()
	})
	connector, err := godriver.NewConnector(config(func(c *godriver.Config) {
		c.User, c.Passwd, c.Addr, c.DialFunc, c.ServerPubKey = "u", password, testcert.Name, i.dial, "known"
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(t.Context()); err == nil {
		t.Error("logged in to an impostor")
	}
	if !i.learned(password) {
		t.Error("the impostor has not learned the password")
	}
}
