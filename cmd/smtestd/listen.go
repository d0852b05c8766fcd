package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// listen opens the port. Beyond loopback it does so only if remote is set: whoever
// reaches the port reads every secret.
func listen(ctx context.Context, address string, remote bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("-listen %s: it is not HOST:PORT", address)
	}
	ip, err := resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("-listen %s: %w", address, err)
	}
	if !ip.IsLoopback() && !remote {
		return nil, fmt.Errorf("-listen %s: other machines could reach it and read every secret, for nobody is asked "+
			"for a password here; name an address of this machine alone, such as 127.0.0.1:4566, or add -allow-remote", address)
	}
	if host != "" {
		// Not the name once more: it may have another address by now.
		host = ip.String()
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("-listen %s: %w", address, err)
	}
	return l, nil
}

// resolve returns the address of a host. No host is every address of the machine. Of
// a name's addresses it is one beyond loopback, if there is one, and rather one of
// IPv4, which every client tries.
func resolve(ctx context.Context, host string) (netip.Addr, error) {
	if host == "" {
		return netip.IPv6Unspecified(), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap(), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return slices.MinFunc(ips, func(a, b netip.Addr) int {
		return cmp.Or(compareBool(a.IsLoopback(), b.IsLoopback()), compareBool(b.Is4(), a.Is4()))
	}), nil
}

// compareBool sorts false first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// endpoint returns the URL at which this machine reaches a listener.
func endpoint(addr net.Addr) string {
	at := addr.(*net.TCPAddr).AddrPort()
	ip := at.Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return "http://" + netip.AddrPortFrom(ip, at.Port()).String()
}
