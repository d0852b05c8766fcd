package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/useragent"
)

const (
	// tokenHeader is the agent's default; its ssrf_headers may name others.
	tokenHeader = "X-Aws-Parameters-Secrets-Token"

	// maxAnswer is more than the longest answer: a value of 65,536 bytes, each
	// escaped by six characters, and what describes it.
	maxAnswer = 1 << 20

	// relearn is for how long an agent that does not know refreshNow is not asked
	// for it again. Not for good: it may be replaced by a newer one.
	relearn = 10 * time.Minute
)

// A Client reads secrets from an agent. Make one with [New]. It is safe for
// concurrent use, keeps no connection and no goroutine between reads, and needs no
// closing.
type Client struct {
	endpoint string // scheme and host
	token    func(context.Context) (token, from string, err error)
	http     *http.Client
	err      error // what is wrong with the Options

	unforced atomic.Pointer[time.Time] // when the agent last said that it does not know refreshNow
}

// New returns a Client. It does no I/O. A nil opts means all defaults. What is wrong
// with the Options, or with the environment, is the error of each read.
func New(opts *Options) *Client {
	if opts == nil {
		opts = new(Options)
	}
	c := &Client{token: opts.token()}
	c.endpoint, c.err = opts.endpoint()
	dialer := &net.Dialer{}
	if !opts.Remote {
		dialer.Control = onlyLoopback
	}
	c.http = &http.Client{
		// Nobody but the agent may have the token: there is no proxy, whatever the
		// environment says, and no second address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext,
			// The agent counts open connections, idle ones too, refuses all beyond
			// 800, and drops each after 61 seconds. One more handshake over loopback
			// every TTL is cheaper than to be in its way.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return c
}

// GetSecretValue asks the agent for a version of a secret, by its ID or by its
// staging label, AWSCURRENT if in names none. It waits until ctx ends. If package
// cache forces the read the agent is told to ask Secrets Manager itself. The agent is
// no SDK client: options for one have no effect.
//
// The error is the SDK's type if the service answered with it; see the package's
// Errors.
func (c *Client) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if c.err != nil {
		return nil, c.err
	}
	query := make(url.Values)
	if in != nil {
		setIf(query, "secretId", in.SecretId)
		setIf(query, "versionId", in.VersionId)
		// The agent keeps what was asked for by AWSCURRENT apart from what was
		// asked for by no label. Others say nothing; to share, nor do we.
		if aws.ToString(in.VersionStage) != cache.Current {
			setIf(query, "versionStage", in.VersionStage)
		}
	}
	if !cache.Forced(ctx) || !c.knowsRefresh() {
		return c.get(ctx, query)
	}
	query.Set("refreshNow", "true")
	out, err := c.get(ctx, query)
	if errors.Is(err, errUnknownParameter) {
		now := time.Now()
		c.unforced.Store(&now)
		query.Del("refreshNow")
		out, err = c.get(ctx, query)
	}
	return out, err
}

func setIf(query url.Values, name string, value *string) {
	if value != nil {
		query.Set(name, *value)
	}
}

// knowsRefresh reports whether it is worth a request to send refreshNow.
func (c *Client) knowsRefresh() bool {
	at := c.unforced.Load()
	return at == nil || time.Since(*at) > relearn
}

// get makes one request.
func (c *Client) get(ctx context.Context, query url.Values) (*secretsmanager.GetSecretValueOutput, error) {
	token, from, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint+"/secretsmanager/get?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	req.Header.Set(tokenHeader, token)
	req.Header.Set("User-Agent", "keyturn/"+useragent.Version)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer res.Body.Close() //nolint:errcheck // It was read, or is of no use.
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.unreachable(ctx, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("agent: %s sends more than a secret can hold; is another program listening there?", c.endpoint)
	case res.StatusCode == http.StatusOK:
		return c.decode(body)
	}
	return nil, c.refused(res.StatusCode, body, from)
}

// unreachable returns what is told of a request without an answer. Of the errors of
// net/http it passes on those alone that are not about bytes received: the others
// quote them.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("agent: no answer from %s: %w", c.endpoint, ended)
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("agent: no answer from %s: %w; is the agent running, and on this port?", c.endpoint, failed)
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("agent: no answer from %s: %w", c.endpoint, failed)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("agent: %s closed the connection before its answer was whole; was the agent stopped?", c.endpoint)
	}
	return fmt.Errorf("agent: %s does not answer as the agent does; is another program listening there?", c.endpoint)
}
