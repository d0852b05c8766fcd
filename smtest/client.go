package smtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// Client returns a new SDK client of this server. Its requests go through
// [Server.ServeHTTP] on the caller's goroutine, with no socket, and honour the
// context; it has the server's Region, dummy credentials and the SDK's own retries,
// which wait for seconds (no time at all in a testing/synctest bubble). optFns
// change its options, for example RetryMaxAttempts, or Region for a client of
// another Region; [Server.AddCaller] returns one that changes who it is.
func (s *Server) Client(optFns ...func(*secretsmanager.Options)) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region:      s.opts.Region,
		HTTPClient:  transport{s},
		Credentials: credentials(s.anybody.keyID),
	}, optFns...)
}

// transport is an HTTP client whose every host is the handler.
type transport struct{ handler http.Handler }

// errLost is what a client sees of a handler that gave up the connection.
var errLost = fmt.Errorf("smtest: connection lost before the answer: %w", io.ErrUnexpectedEOF)

// Do sends one request, as [http.Client.Do].
func (t transport) Do(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close() //nolint:errcheck // Nothing was written to it.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in := r.WithContext(ctx) // The headers are the client's: they are read and not changed.
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	rec := recorder{header: make(http.Header)}
	if err := rec.serve(t.handler, in); err != nil {
		return nil, err
	}
	// An answer that is there when its caller has gone is lost on a network too.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return rec.response(r), nil
}

// A recorder keeps an answer. It sets no Date header: the SDK would take the
// clock of a synctest bubble for a skewed one.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
	}
}

func (rec *recorder) Write(b []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	return rec.body.Write(b)
}

// serve calls the handler; an abort becomes an error, any other panic goes on.
func (rec *recorder) serve(h http.Handler, r *http.Request) (err error) {
	defer func() {
		switch v := recover(); {
		case v == nil:
		case isAbort(v):
			if err = r.Context().Err(); err == nil {
				err = errLost
			}
		default:
			panic(v)
		}
	}()
	h.ServeHTTP(rec, r)
	return nil
}

func isAbort(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

func (rec *recorder) response(r *http.Request) *http.Response {
	rec.WriteHeader(http.StatusOK)
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", rec.status, http.StatusText(rec.status)),
		StatusCode: rec.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        rec.header,
		Body:          io.NopCloser(&rec.body),
		ContentLength: int64(rec.body.Len()),
		Request:       r,
	}
}
