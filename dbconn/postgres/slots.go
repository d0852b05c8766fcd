package postgres

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// slotsEach is how many attempts an address gets: those of a walk, and one more in
// which that says that there are no more.
const slotsEach = 4

// A slot is one attempt in pgx's list.
type slot struct {
	address string // as DialFunc gets it
	first   bool   // of its address
	clear   bool   // without TLS
}

// A lookup is an answer of LookupFunc.
type lookup struct {
	host    string
	answers []string
	err     error
}

// lay makes the list of attempts: all of one address, then all of the next. Names
// are looked up here, once.
func (ch *chain) lay(ctx context.Context, cc *pgx.ConnConfig) error {
	first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
	room := slotsEach * (1 + len(cc.Fallbacks))
	list := make([]*pgconn.FallbackConfig, 0, room)
	ch.slots, ch.lookups = make([]slot, 0, room), make([]lookup, 0, room)
	add := func(server *pgconn.FallbackConfig, address string) {
		for i := range slotsEach {
			list = append(list, server)
			ch.slots = append(ch.slots, slot{address, i == 0, server.TLSConfig == nil})
		}
	}
	var known []lookup
	var failed error
	for i := range 1 + len(cc.Fallbacks) {
		server := first
		if i > 0 {
			server = cc.Fallbacks[i-1]
		}
		if strings.HasPrefix(server.Host, "/") {
			_, address := pgconn.NetworkAddress(server.Host, server.Port)
			add(server, address)
			continue
		}
		at := slices.IndexFunc(known, func(l lookup) bool { return l.host == server.Host })
		if at < 0 {
			at = len(known)
			known = append(known, ch.resolve(ctx, server.Host))
		}
		found := known[at]
		if found.err != nil {
			// pgx gets to know, and reports it beside what the others say.
			failed = found.err
			list = append(list, server)
			ch.lookups = append(ch.lookups, found)
			continue
		}
		for i, answer := range found.answers {
			add(server, addressOf(answer, server.Port))
			for range slotsEach {
				ch.lookups = append(ch.lookups, lookup{host: server.Host, answers: found.answers[i : i+1 : i+1]})
			}
		}
	}
	if len(ch.slots) == 0 {
		return fmt.Errorf("postgres: the host of secret %q cannot be looked up: %w", ch.source.SecretID(), failed)
	}
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = list[0].Host, list[0].Port, list[0].TLSConfig, list[1:]
	return nil
}

// addressOf returns what pgx dials for an answer of a lookup, which may name a port.
func addressOf(answer string, port uint16) string {
	if _, err := netip.ParseAddr(answer); err != nil {
		if host, port, err := net.SplitHostPort(answer); err == nil {
			return net.JoinHostPort(host, port)
		}
	}
	_, address := pgconn.NetworkAddress(answer, port)
	return address
}

// resolve looks a host up, within the time of one attempt. For an address that
// takes none.
func (ch *chain) resolve(ctx context.Context, host string) lookup {
	if _, err := netip.ParseAddr(host); err != nil && ch.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ch.timeout)
		defer cancel()
	}
	answers, err := ch.user.lookup(ctx, host)
	if err == nil && len(answers) == 0 {
		err = fmt.Errorf("no address for host %q", host)
	}
	return lookup{host, answers, err}
}

// lookup gives pgx what was looked up already: one address for each slot.
func (ch *chain) lookup(ctx context.Context, host string) ([]string, error) {
	if ch.over.Load() || len(ch.lookups) == 0 || ch.lookups[0].host != host {
		return ch.user.lookup(ctx, host)
	}
	answer := ch.lookups[0]
	ch.lookups = ch.lookups[1:]
	return answer.answers, answer.err
}
