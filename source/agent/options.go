package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"syscall"
)

// Options are the settings of a [Client]. The zero value of each field is its
// documented default.
type Options struct {
	// Endpoint is where the agent listens: scheme, host and port. Default
	// http://127.0.0.1:2773, with the port that the environment variable
	// PARAMETERS_SECRETS_EXTENSION_HTTP_PORT names if it is set.
	Endpoint string

	// Remote allows an Endpoint that is not a loopback address. The agent itself
	// listens on 127.0.0.1 alone; whatever relays to it sees the token and the
	// secrets, and over http so does the network.
	Remote bool

	// Token returns the token, and is called for each request. Its error is the
	// read's; it must not quote the token. Default: what the agent's own rule says,
	// see the package's documentation.
	Token func(context.Context) (string, error)
}

// endpoint returns scheme and host of the Endpoint.
func (o *Options) endpoint() (string, error) {
	if o.Endpoint == "" {
		port := "2773"
		if set := os.Getenv(portVariable); set != "" {
			port = set
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("agent: the environment variable %s is %q, which is not a port", portVariable, port)
		}
		return "http://127.0.0.1:" + port, nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		// Not quoted: whoever puts a password into it will find that in a log.
		return "", errors.New("agent: Options.Endpoint is not a scheme, a host and a port, such as http://127.0.0.1:2773")
	}
	return u.Scheme + "://" + u.Host, nil
}

// portVariable is documented in "Use AWS Secrets Manager secrets in AWS Lambda
// functions" of the AWS Secrets Manager User Guide.
const portVariable = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"

// onlyLoopback is a net.Dialer's Control. It sees the address that a name was
// resolved to, which a look at the Endpoint would not.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return errors.New("the token is sent to loopback addresses alone; set Options.Remote if the agent is to be reached over a network")
	}
	return nil
}
