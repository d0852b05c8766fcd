package retry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/cache"
)

// A verdict is what a response says of the key.
type verdict int

const (
	saysNothing verdict = iota
	saysGood            // it was accepted
	saysBad             // it was refused
)

// try sends a copy of the request with the key on it, and judges the response. It
// closes the body, if the base does not.
func (t *Transport) try(req *http.Request, body io.ReadCloser, s *cache.Secret) (resp *http.Response, v verdict, err error) {
	sent, judged := false, false
	defer func() {
		if !sent {
			closeBody(body)
		}
		if !judged && resp != nil {
			closeBody(resp.Body)
			resp = nil
		}
	}()
	// A shallow copy: the trailer is filled in while the body is read, so it
	// must stay the caller's.
	keyed := req.WithContext(req.Context())
	keyed.Body, keyed.Header = body, req.Header.Clone()
	if keyed.Header == nil {
		keyed.Header = make(http.Header)
	}
	u := *req.URL
	keyed.URL = &u
	if err := t.set(keyed, s); err != nil {
		return nil, saysNothing, fmt.Errorf("retry: secret %q (version %s): no key on the request to %s: %w", t.retrier.secretID, s.VersionID(), t.host, err)
	}
	sent = true
	base := t.roundTripper()
	resp, err = base.RoundTrip(keyed)
	if err == nil && resp == nil {
		err = fmt.Errorf("retry: %T returned neither a response nor an error", base)
	}
	if err != nil {
		return resp, saysNothing, err
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	resp.Request = req // ours has the key
	v = t.judge(resp)
	judged = true
	return resp, v, nil
}

// judge returns what a response says of the key.
func (t *Transport) judge(resp *http.Response) verdict {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, t.rejected != nil && t.rejected(resp):
		return saysBad
	case code >= 500, code == http.StatusForbidden, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return saysNothing
	}
	return saysGood
}

// has reports whether the walk has tried a version.
func (w *Walk) has(version string) bool {
	return slices.ContainsFunc(w.tried, func(a Attempt) bool { return a.VersionID == version })
}

// begin begins a login, beside all others, with a version that nobody offers.
func (w *Walk) begin(s *cache.Secret) {
	r := w.r
	r.mu.Lock()
	w.login = &login{candidate: candidate{s, cache.Current}, number: r.target.number()}
	r.mu.Unlock()
	r.Report(Tried, s.VersionID(), cache.Current, nil)
}

// refusedAgain is Refused for a version of which that is known. To the others it is
// no news, and nobody has to look at the labels again for it.
func (w *Walk) refusedAgain(err error) {
	r, l := w.r, w.login
	version := l.secret.VersionID()
	w.tried, w.err = append(w.tried, Attempt{VersionID: version, Stage: l.stage}), err
	w.barred = append(w.barred, barred{version, math.MaxUint64}) // whatever others are told
	r.mu.Lock()
	r.endLocked(l, true)
	r.mu.Unlock()
	w.end()
	r.Report(Refused, version, l.stage, err)
}

// troubled reports whether it is the time between a refusal and the next
// acceptance, of the version or of any. At all others a request with a version
// that is not proven needs no lead.
func (t *standings) troubled(version string) bool {
	st := t.versions[version]
	return t.refusing || st != nil && st.refused > st.accepted
}

// hold reads the body of a refused response, if it is not long, so that its
// connection is free for the next attempt, and for those of others while this
// request waits. The body reads as before.
func hold(resp *http.Response) {
	if resp.ContentLength > maxHeld {
		return
	}
	body := resp.Body
	start, err := io.ReadAll(io.LimitReader(body, maxHeld+1))
	if err == nil && len(start) <= maxHeld {
		closeBody(body)
		resp.Body = io.NopCloser(bytes.NewReader(start))
		return
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), body), body}
}

// rewindable reports whether a request can be sent more than once.
func rewindable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// rewound returns the body of a rewindable request once more.
func rewound(req *http.Request) (io.ReadCloser, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, nil
	}
	return req.GetBody()
}

func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}

// A statusError is a refusal. It does not quote the server's own text, which may
// quote the key.
type statusError int

func (e statusError) Error() string {
	return strings.TrimSpace(strconv.Itoa(int(e)) + " " + http.StatusText(int(e)))
}

// statusCode is the Options.Code of a Transport.
func statusCode(err error) string {
	if status, ok := errors.AsType[statusError](err); ok {
		return strconv.Itoa(int(status))
	}
	return ""
}
