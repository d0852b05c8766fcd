package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/cache"
)

const (
	// maxHeld is how much of the body of a refused response is read before the
	// request is sent again, so that its connection can be used again.
	maxHeld = 64 << 10

	// requestPatience is the default of TransportOptions.Patience. It is less
	// than that of a login: behind a request somebody waits.
	requestPatience = 10 * time.Second

	// maxSearch bounds how long a request that was not refused itself looks for
	// a version that is, should the reads of the labels hang.
	maxSearch = 3 * time.Second
)

// TransportOptions are the settings of a [Transport]. The zero value of each
// field is its documented default.
type TransportOptions struct {
	// Base makes the requests. Default: [http.DefaultTransport]. Another
	// Transport can be the base: so one client has keys for several hosts.
	Base http.RoundTripper

	// Rejected reports whether a response refuses the key, besides those with
	// status 401, which all do; for an API that says so with 403, or in the
	// body. It is asked about every other response to a request with a key, and
	// must leave the body as it was: put back what you read. Default: none does.
	Rejected func(*http.Response) bool

	// Patience is how long a request that was refused with every version waits
	// for the labels to move, if a rotation may be under way. Default 10
	// seconds. Negative: not at all.
	Patience time.Duration

	// OnEvent is [Options.OnEvent]. It hears of each request, as [Tried].
	OnEvent func(Event)

	// Stats is [Options.Stats].
	Stats *Stats

	// Logger gets refusals and waits at Warn, never a value. Default: silent.
	Logger *slog.Logger
}

// A Transport is an [http.RoundTripper] that puts the key of an API on the
// requests to it, and sends a request again with another version of the key when
// the API refuses one. It is safe for concurrent use; share one among all who
// call the API, for it remembers which versions were accepted and which refused.
// It has no goroutine and needs no closing.
//
// # Which requests get the key
//
// Those to the host, at the port, over https; over plain http if the host is a
// loopback address. The key is put on a copy: neither the caller's request nor
// that in the response shows it, and no redirect carries it on. All other
// requests go to the base as they are, also where a redirect leads to, be it to
// another host or from https to http. But a request that is itself for the host
// over plain http is an error: it would go out without a key.
//
// # What a response says of the key
//
// Status 401, or TransportOptions.Rejected, refuses it. Other answers below 500
// prove it good, except for 403, 408 and 429: those come from firewalls and rate
// limits as well, which do not look at keys. They and the answers from 500 on
// leave it open.
//
// A refused request is sent again with the next version, in the order that the
// package describes, if it has no body or has GetBody, which [http.NewRequest]
// sets for bytes and strings in memory. The API sees it three times at most. A
// request with another body is sent once: its 401 goes to the caller, and the
// requests after it know.
//
// If no version is accepted, the caller gets the API's own last answer. It is
// no verdict on the key, for there are APIs that say 401 of a request that the key
// has no right to: the requests after it are not held back, but sent once each,
// with AWSCURRENT, and an acceptance of one sets things right. A better version is
// looked for once a second then, so that long may a rotation show if an API says
// 401 all the time.
//
// # Waiting
//
// Requests go side by side, and wait for nothing but the first read of the
// secret. Only between a refusal and the next acceptance does one request go
// ahead with a version that is not proven; the others wait for its response
// headers, a second at most. See TransportOptions.Patience for what else there
// may be to wait for. Nothing waits longer than the request's context.
type Transport struct {
	retrier    *Retrier
	set        func(*http.Request, *cache.Secret) error
	base       http.RoundTripper // nil: http.DefaultTransport
	rejected   func(*http.Response) bool
	host, port string               // as in a URL, the host in lower case; no port: the scheme's
	err        error                // what is wrong with the host
	vain       atomic.Pointer[vain] // the latest, or nil
}

// NewTransport returns a Transport that puts the key from a secret of c on
// requests to host: a name or an address, with a port if it is not the usual one.
// Names are compared as they are written, save for the case: subdomains are other
// hosts, and so is an international name in its other form.
//
// set puts the key on a request, which is a copy, its header not nil:
//
//	func(r *http.Request, s *cache.Secret) error {
//		r.Header.Set("Authorization", "Bearer "+s.Text())
//		return nil
//	}
//
// An error of set fails the request, which then is not sent; it is passed on, so
// what it quotes shows.
//
// NewTransport does no I/O; a nil opts means all defaults. It panics if c or set
// is nil. If host is none, every request fails and says so.
func NewTransport(c *cache.Cache, secretID, host string, set func(*http.Request, *cache.Secret) error, opts *TransportOptions) *Transport {
	if c == nil || set == nil {
		panic("retry: NewTransport needs a cache and a function that puts the key on a request")
	}
	var o TransportOptions
	if opts != nil {
		o = *opts
	}
	if o.Patience == 0 {
		o.Patience = requestPatience
	}
	t := &Transport{set: set, base: o.Base, rejected: o.Rejected}
	t.host, t.port, t.err = splitHost(host)
	isRefused := func(error) bool { return true } // not asked: send says itself what is refused
	t.retrier = New(c, secretID, isRefused, &Options{
		Target: host, Patience: o.Patience, Code: statusCode,
		OnEvent: o.OnEvent, Stats: o.Stats, Logger: o.Logger,
	})
	t.retrier.eager = true
	return t
}

// RoundTrip implements [http.RoundTripper]. Its errors are the base's and set's;
// the cache's, if the secret cannot be read; and an [*Error], if the context ended
// while it looked for a version that is accepted.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ours, err := t.ours(req)
	switch {
	case err != nil:
		closeBody(req.Body)
		return nil, err
	case ours:
		return t.send(req)
	}
	return t.roundTripper().RoundTrip(req)
}

// CloseIdleConnections closes the idle connections of the base, if that can.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.roundTripper().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// roundTripper returns the base. The default is looked up each time, as an
// http.Client does, for programs that replace it.
func (t *Transport) roundTripper() http.RoundTripper {
	if t.base != nil {
		return t.base
	}
	return http.DefaultTransport
}

// ours reports whether a request gets the key.
func (t *Transport) ours(req *http.Request) (bool, error) {
	switch u := req.URL; {
	case t.err != nil:
		return false, t.err
	case u == nil || lower(u.Hostname()) != t.host || !t.samePort(u):
		return false, nil
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(t.host):
		return true, nil
	case u.Scheme == "http" && req.Response == nil: // not the doing of a redirect
		return false, fmt.Errorf("retry: secret %q is not sent to %s over plain http; use https", t.retrier.secretID, t.host)
	}
	return false, nil
}

// samePort reports whether a URL with our host has our port. A port that is not
// said is the scheme's, on either side.
func (t *Transport) samePort(u *url.URL) bool {
	usual := "443"
	if u.Scheme == "http" {
		usual = "80"
	}
	port := cmp.Or(u.Port(), usual)
	return port == cmp.Or(t.port, usual)
}

// send sends a request with one version of the key after the other, until there
// is a response that does not refuse it.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	ctx, w := req.Context(), t.retrier.Walk()
	defer w.NoVerdict(ctx) // should set, Rejected or the base panic
	var refused *http.Response
	for body := req.Body; ; {
		s, anew, err := t.next(ctx, w)
		if err == nil && refused != nil {
			body, err = rewound(req)
		}
		switch {
		case err == nil:
		case refused == nil:
			closeBody(body)
			return nil, err
		case ctx.Err() != nil:
			closeBody(refused.Body)
			return nil, err
		default:
			return refused, nil // the API's own answer says more
		}
		if refused != nil {
			closeBody(refused.Body)
		}
		resp, verdict, err := t.try(req, body, s)
		if err != nil {
			return nil, err
		}
		switch verdict {
		case saysGood:
			w.Accepted()
			return resp, nil
		case saysNothing:
			return resp, nil
		case saysBad:
		}
		var search *vain
		if w.login.stage == cache.Current {
			search = t.inVain(s)
		}
		if status := statusError(resp.StatusCode); anew && search == nil {
			w.Refused(ctx, status)
		} else {
			w.refusedAgain(status)
		}
		if search != nil && !search.rotating || !rewindable(req) {
			return resp, nil
		}
		refused = resp
		hold(refused)
	}
}

// next returns the version to send the request with now. If there is none but
// AWSCURRENT, which was refused on another request and not yet on this one, that
// is it, and anew is false.
//
// A database says with a refusal that the password is wrong. An API may mean the
// request: for want of a right, or of some other header. Were its key left alone
// for that, one such request would stop all the others.
func (t *Transport) next(ctx context.Context, w *Walk) (s *cache.Secret, anew bool, err error) {
	if len(w.tried) == 0 && t.vain.Load() != nil {
		if s, err := t.retrier.handle.Get(ctx); err == nil && t.inVain(s) != nil {
			w.begin(s)
			return s, false, nil
		}
	}
	search := ctx
	if _, refusing := t.retrier.refusedAt(); refusing && !w.has(w.labels.current) {
		var cancel context.CancelFunc
		search, cancel = context.WithTimeout(ctx, maxSearch)
		defer cancel()
	}
	if s, err = w.Next(search); err == nil {
		return s, true, nil
	}
	if ctx.Err() != nil {
		return nil, false, err
	}
	t.lookedInVain(ctx, w, err)
	if len(w.tried) < maxLogins {
		if s, unreadable := t.retrier.handle.Get(ctx); unreadable == nil && !w.has(s.VersionID()) {
			w.begin(s)
			return s, false, nil
		}
	}
	return nil, false, err
}

// A vain is a search that has found nothing but what was refused. For a second
// nobody searches again, and no further refusal of what it looked at counts. That
// bounds what an API costs that says 401 of some requests and accepts the others.
type vain struct {
	versions []string
	rotating bool // but there may be more soon
	at       time.Time
}

// lookedInVain takes note that a walk has found nothing but what was refused.
func (t *Transport) lookedInVain(ctx context.Context, w *Walk, err error) {
	if _, refused := errors.AsType[*Error](err); !refused {
		return
	}
	v := &vain{versions: []string{w.labels.current, w.labels.pending}, rotating: w.labels.rotating(), at: time.Now()}
	tried := w.tried
	if len(tried) >= maxLogins {
		tried, v.versions = tried[:maxLogins-1], nil // after the last there was no look at the labels
	}
	for _, a := range tried {
		v.versions = append(v.versions, a.VersionID)
	}
	if last := t.vain.Swap(v); last == nil || t.retrier.cache.Since(last.at) > 2*labelAge {
		t.retrier.warn(ctx, "every version was refused; requests go on with AWSCURRENT", slog.Any("error", err))
	}
}

// inVain returns the search that has found nothing better than this version a
// moment ago, or nil.
func (t *Transport) inVain(s *cache.Secret) *vain {
	v := t.vain.Load()
	if v == nil || t.retrier.cache.Since(v.at) >= labelAge || !slices.Contains(v.versions, s.VersionID()) {
		return nil
	}
	return v
}
