package mysql

import (
	"crypto/sha256"
	"strings"
)

const (
	cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	digestLength  = 43
)

// shaCrypt is the digest of Ulrich Drepper's "Unix crypt using SHA-256", of which
// MySQL has a variant: it does not cut the salt at 16 characters. The names of
// the steps are those of that document.
func shaCrypt(password, salt string, rounds int) string {
	digest := func(parts ...string) []byte {
		h := sha256.New()
		for _, part := range parts {
			h.Write([]byte(part))
		}
		return h.Sum(nil)
	}
	// stretch repeats a digest to the length of what it stands for.
	stretch := func(d []byte, n int) string { return strings.Repeat(string(d), n/len(d)+1)[:n] }

	b := digest(password, salt, password)
	parts := []string{password, salt, stretch(b, len(password))}
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			parts = append(parts, string(b))
		} else {
			parts = append(parts, password)
		}
	}
	a := digest(parts...)
	p := stretch(digest(strings.Repeat(password, len(password))), len(password))
	s := stretch(digest(strings.Repeat(salt, 16+int(a[0]))), len(salt))

	c := a
	h := sha256.New()
	pBytes, sBytes := []byte(p), []byte(s)
	for i := range rounds {
		h.Reset()
		if i%2 != 0 {
			h.Write(pBytes)
		} else {
			h.Write(c)
		}
		if i%3 != 0 {
			h.Write(sBytes)
		}
		if i%7 != 0 {
			h.Write(pBytes)
		}
		if i%2 != 0 {
			h.Write(c)
		} else {
			h.Write(pBytes)
		}
		c = h.Sum(c[:0])
	}
	return cryptEncode(c)
}

// cryptEncode is crypt's own base 64, of the bytes in crypt's own order.
func cryptEncode(c []byte) string {
	var out strings.Builder
	encode := func(w uint, n int) {
		for range n {
			out.WriteByte(cryptAlphabet[w%64])
			w /= 64
		}
	}
	i, j, k := 0, 10, 20
	for range 10 {
		encode(uint(c[i])<<16|uint(c[j])<<8|uint(c[k]), 4)
		i, j, k = k+1, i+1, j+1
	}
	encode(uint(c[31])<<8|uint(c[30]), 3)
	return out.String()
}
