// Package lambdaapi runs the program of a Lambda function on this machine, as AWS
// Lambda does: the program asks a runtime API on a loopback port for its
// invocations, one at a time, and between two of them it may be frozen.
//
// The API is that of "Using the Lambda runtime API for custom runtimes" in the AWS
// Lambda Developer Guide, version 2018-06-01. What is not here: extensions,
// response streaming, and limits of memory or of payloads.
package lambdaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Options say what is run.
type Options struct {
	// Binary is the path of the program.
	Binary string

	// Env is its environment, besides what Lambda sets. Nothing of this process's
	// own environment is in it.
	Env map[string]string

	// Timeout is the function's. 0: a minute, as a busy machine may take for what
	// Lambda does in three seconds.
	Timeout time.Duration
}

// A Function is one execution environment: a process that was started once and is
// invoked many times. All methods may be called concurrently.
type Function struct {
	timeout time.Duration
	server  *httptest.Server
	cmd     *exec.Cmd
	log     *output
	gone    chan struct{} // closed when the process has ended

	turn  chan struct{}    // held by the Invoke that is on
	asked chan struct{}    // has a token from when the runtime asks until Start or Invoke sees it
	next  chan *invocation // to the request that asks
	init  chan error       // the answer to the init phase, if it failed

	mu       sync.Mutex // protects following
	current  *invocation
	requests int
	frozen   bool
}

type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
	answer   chan result // of capacity 1
}

type result struct {
	response []byte
	err      error
}

// An Error is what the function answered in the place of a response.
type Error struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`

	// Sent is all that the runtime sent to the API to report it: the body, and
	// the cause that is made for X-Ray.
	Sent string `json:"-"`
}

// Error returns the type and the message.
func (e *Error) Error() string { return fmt.Sprintf("lambdaapi: %s: %s", e.Type, e.Message) }

// Start runs the program and returns when it has asked for its first invocation:
// when the init phase is over. The error is the function's, an [*Error], if it
// reported that it cannot start. ctx governs the start alone; call
// [Function.Stop].
func Start(ctx context.Context, opts *Options) (*Function, error) {
	f := &Function{
		timeout: opts.Timeout,
		log:     &output{},
		gone:    make(chan struct{}),
		turn:    make(chan struct{}, 1),
		asked:   make(chan struct{}, 1),
		next:    make(chan *invocation),
		init:    make(chan error, 1),
	}
	if f.timeout <= 0 {
		f.timeout = time.Minute
	}
	f.server = httptest.NewServer(f.routes())
	// Not CommandContext: the context ends the start, not the function.
	f.cmd = exec.Command(opts.Binary) //nolint:noctx // see above
	f.cmd.Env = environment(strings.TrimPrefix(f.server.URL, "http://"), opts.Env)
	f.cmd.Stdout, f.cmd.Stderr = f.log, f.log
	ownGroup(f.cmd)
	if err := f.cmd.Start(); err != nil {
		f.server.Close()
		return nil, fmt.Errorf("lambdaapi: %w", err)
	}
	go func() {
		_ = f.cmd.Wait()
		close(f.gone)
	}()
	var err error
	select {
	case <-f.asked:
		return f, nil
	case err = <-f.init:
	case <-f.gone:
		err = f.ended()
	case <-ctx.Done():
		err = fmt.Errorf("lambdaapi: the function has not asked for an invocation: %w", context.Cause(ctx))
	}
	f.Stop()
	return nil, err
}

// environment returns the variables that Lambda sets, with those of the function.
// See "Defined runtime environment variables" in the AWS Lambda Developer Guide.
func environment(api string, env map[string]string) []string {
	vars := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          api,
		"AWS_LAMBDA_FUNCTION_NAME":        "function",
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/function",
		"AWS_LAMBDA_LOG_STREAM_NAME":      "2026/01/01/[$LATEST]0",
		"AWS_REGION":                      "us-east-1",
		"AWS_DEFAULT_REGION":              "us-east-1",
		"AWS_ACCESS_KEY_ID":               "ASIAEXAMPLE000000000",
		"AWS_SECRET_ACCESS_KEY":           "example",
		"AWS_SESSION_TOKEN":               "example",
		"_HANDLER":                        "bootstrap",
		"LAMBDA_TASK_ROOT":                "/var/task",
		"LANG":                            "en_US.UTF-8",
		"PATH":                            os.Getenv("PATH"),
		"TZ":                              ":UTC",
		// Nobody's home is in Lambda, and this machine's must not count.
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	maps.Copy(vars, env)
	list := make([]string, 0, len(vars))
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	return list
}

// Invoke has the function handle one event, and returns its answer or, as an
// [*Error], the error that it reported. It returns when the function has asked for
// the next invocation, or has ended: until then it is at work. A frozen function
// is thawed. Invocations come one after the other.
//
// As in Lambda, a function that does not answer in time is killed, and so it is
// if ctx ends. No Invoke succeeds after that.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("lambdaapi: timed out after %v", f.timeout))
	defer cancel()
	inv := f.newInvocation(ctx, payload)
	if err := f.thaw(); err != nil {
		return nil, err
	}
	select {
	case f.next <- inv:
	case <-f.gone:
		return nil, f.ended()
	case <-ctx.Done():
		return nil, f.timedOut(ctx)
	}
	var answer result
	select {
	case answer = <-inv.answer:
	case <-f.gone:
		// It may have answered and ended, as after a panic.
		select {
		case answer = <-inv.answer:
		default:
			return nil, f.ended()
		}
	case <-ctx.Done():
		return nil, f.timedOut(ctx)
	}
	select {
	case <-f.asked:
	case <-f.gone:
	case <-ctx.Done():
		return nil, f.timedOut(ctx)
	}
	return answer.response, answer.err
}

func (f *Function) newInvocation(ctx context.Context, payload []byte) *invocation {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	deadline, _ := ctx.Deadline()
	f.current = &invocation{
		id:       fmt.Sprintf("00000000-0000-4000-8000-%012d", f.requests),
		payload:  payload,
		deadline: deadline,
		answer:   make(chan result, 1),
	}
	return f.current
}

func (f *Function) timedOut(ctx context.Context) error {
	f.kill()
	return context.Cause(ctx)
}

func (f *Function) ended() error {
	return errors.New("lambdaapi: the function has ended; its output:\n" + f.Log())
}

// Freeze stops the process until the next Invoke, as Lambda does between two.
// Its clocks go on, those of Lambda's sandbox may stand still. It must not be
// called while an Invoke is on.
func (f *Function) Freeze() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
	return f.stop()
}

func (f *Function) thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen {
		return nil
	}
	f.frozen = false
	return f.cont()
}

// PID returns the number of the process.
func (f *Function) PID() int { return f.cmd.Process.Pid }

// Log returns what the function has written so far, to either output.
func (f *Function) Log() string { return f.log.String() }

// Stop kills the process, as Lambda does with an environment that it needs no
// more, and waits for its end.
func (f *Function) Stop() {
	f.kill()
	<-f.gone
	f.server.Close()
}

func (f *Function) kill() { _ = f.cmd.Process.Kill() } // an error: it has ended

// routes returns the runtime API.
func (f *Function) routes() http.Handler {
	const runtime = "/2018-06-01/runtime"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtime+"/invocation/next", f.serveNext)
	mux.HandleFunc("POST "+runtime+"/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		f.serveAnswer(w, r, func(body []byte) result { return result{response: body} })
	})
	mux.HandleFunc("POST "+runtime+"/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		f.serveAnswer(w, r, func(body []byte) result { return result{err: newError(r, body)} })
	})
	mux.HandleFunc("POST "+runtime+"/init/error", func(w http.ResponseWriter, r *http.Request) {
		if body, ok := read(w, r); ok {
			select {
			case f.init <- newError(r, body):
			default: // said already
			}
			accepted(w)
		}
	})
	return mux
}

func (f *Function) serveNext(w http.ResponseWriter, r *http.Request) {
	select {
	case f.asked <- struct{}{}:
	default: // the runtime has asked before, and given that request up
	}
	select {
	case inv := <-f.next:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(inv.deadline.UnixMilli()))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:function")
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
		_, _ = w.Write(inv.payload)
	case <-r.Context().Done():
	}
}

func (f *Function) serveAnswer(w http.ResponseWriter, r *http.Request, result func([]byte) result) {
	body, ok := read(w, r)
	if !ok {
		return
	}
	f.mu.Lock()
	inv := f.current
	if inv != nil && inv.id == r.PathValue("id") {
		f.current = nil // a second answer is an error
	} else {
		inv = nil
	}
	f.mu.Unlock()
	if inv == nil {
		http.Error(w, `{"errorType":"InvalidRequestID","errorMessage":"no such invocation"}`, http.StatusBadRequest)
		return
	}
	inv.answer <- result(body)
	accepted(w)
}

func newError(r *http.Request, body []byte) error {
	e := &Error{Sent: string(body) + r.Header.Get("Lambda-Runtime-Function-Xray-Error-Cause")}
	if err := json.Unmarshal(body, e); err != nil {
		return fmt.Errorf("lambdaapi: the function reported an error that is no JSON: %w", err)
	}
	return e
}

func read(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return b.Bytes(), true
}

func accepted(w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte(`{"status":"OK"}`))
}

// An output is what a process has written.
type output struct {
	mu sync.Mutex // protects following
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
