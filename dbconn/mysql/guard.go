package mysql

import "errors"

// A guard watches what comes over a connection without TLS, for which the server's
// public key is known, until the login is over: whoever answers must not offer
// another key. The driver has the known one, and yet, with sha256_password, which
// any server may choose, it goes on to encrypt the password with the one that it
// gets.
type guard struct {
	header  []byte // of the packet that is being read, up to its first byte
	left    int    // bytes of it that are still to come
	packets int    // how many have begun
	over    bool   // the login is
	offered bool   // a key was
}

var errOffered = errors.New("mysql: whoever answers offers a public key to encrypt the password with, in the place of the one that is known to be the server's; " +
	"the password was not sent. If the server is the right one, its key has changed, or the user has sha256_password, which works over TLS alone")

const (
	headerSize = 4 // a packet's length, in three bytes, and its number
	wholeSize  = 1<<24 - 1

	// What a packet of a login begins with, after the server's first.
	packetOK       = 0x00
	packetError    = 0xff
	packetMoreData = 0x01
)

// permits looks at what the server sends and reports whether there is no key in
// it. Source: "Protocol::AuthMoreData" and "MySQL Packets" in the MySQL Source
// Code Documentation.
func (g *guard) permits(data []byte) bool {
	for len(data) > 0 && !g.over && !g.offered {
		if g.left > 0 {
			n := min(g.left, len(data))
			g.left, data = g.left-n, data[n:]
			continue
		}
		g.header, data = append(g.header, data[0]), data[1:]
		g.look()
	}
	return !g.offered
}

// look looks at the header of a packet, as far as it has come.
func (g *guard) look() {
	if len(g.header) < headerSize {
		return
	}
	size := int(g.header[0]) | int(g.header[1])<<8 | int(g.header[2])<<16
	switch {
	case size == wholeSize:
		// It goes on in the next packet, which would be taken for one of its
		// own. No login is as long.
		g.offered = true
	case size == 0:
		g.header = g.header[:0]
	case len(g.header) > headerSize:
		first := g.header[headerSize]
		g.header, g.left = g.header[:0], size-1
		g.packets++
		// The first packet is the greeting. Of those that go on with the login,
		// one byte tells how caching_sha2_password does; a key is longer.
		g.over = g.packets > 1 && (first == packetOK || first == packetError)
		g.offered = g.packets > 1 && first == packetMoreData && size > 2
	}
}
