//go:build unix

package lambdaapi_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/keyturn/keyturn/examples/internal/lambdaapi"
)

// The functions of these tests are this program, started by lambdaapi.
func TestMain(m *testing.M) {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	if api == "" {
		os.Exit(m.Run())
	}
	switch os.Getenv("INIT") {
	case "fatal":
		log.Fatal("no configuration")
	case "error":
		report := strings.NewReader(`{"errorType":"Runtime.Init","errorMessage":"no configuration"}`)
		response, err := http.Post("http://"+api+"/2018-06-01/runtime/init/error", "application/json", report) //nolint:noctx // of a program
		if err != nil {
			log.Fatal(err)
		}
		_ = response.Body.Close()
		select {}
	case "hang":
		select {}
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, what string) (string, error) {
	switch what {
	case "fail":
		return "", errors.New("it is broken")
	case "panic":
		panic("it is broken")
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, ok := ctx.Deadline()
	return fmt.Sprintf("%s, %v, %v, %s", what, lc.AwsRequestID != "", ok && time.Until(deadline) > 0, os.Getenv("NAME")), nil
}

func start(t *testing.T, opts *lambdaapi.Options) *lambdaapi.Function {
	t.Helper()
	opts.Binary = os.Args[0]
	f, err := lambdaapi.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}

func answers(t *testing.T, f *lambdaapi.Function) {
	t.Helper()
	got, err := f.Invoke(t.Context(), []byte(`"hello"`))
	if err != nil || string(got) != `"hello, true, true, Ada"` {
		t.Errorf("Invoke = %s, %v", got, err)
	}
}

func TestInvoke(t *testing.T) {
	f := start(t, &lambdaapi.Options{Env: map[string]string{"NAME": "Ada"}})
	answers(t, f)
	_, err := f.Invoke(t.Context(), []byte(`"fail"`))
	if e, ok := errors.AsType[*lambdaapi.Error](err); !ok || e.Type != "errorString" || e.Message != "it is broken" || strings.Count(e.Sent, "it is broken") != 2 {
		t.Errorf("Invoke: %#v; want the error, reported and for X-Ray", err)
	}
	if err := f.Freeze(); err != nil {
		t.Fatal(err)
	}
	answers(t, f)
	f.Stop()
	if _, err := f.Invoke(t.Context(), []byte(`"hello"`)); err == nil {
		t.Error("a function that was stopped has answered")
	}
	f.Stop()
}

// The environment of this process is none of the function's.
func TestEnvironment(t *testing.T) {
	t.Setenv("NAME", "Grace")
	f := start(t, &lambdaapi.Options{})
	if got, err := f.Invoke(t.Context(), []byte(`"hello"`)); string(got) != `"hello, true, true, "` {
		t.Errorf("Invoke = %s, %v", got, err)
	}
}

// After these there is no function any more.
func TestEnds(t *testing.T) {
	for _, test := range []struct {
		event   string
		timeout time.Duration
		want    string
	}{
		{"panic", 0, "it is broken"},
		{"exit", 0, "the function has ended"},
		{"hang", time.Second, "timed out after 1s"},
	} {
		f := start(t, &lambdaapi.Options{Timeout: test.timeout})
		if _, err := f.Invoke(t.Context(), []byte(`"`+test.event+`"`)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.event, err, test.want)
		}
		if _, err := f.Invoke(t.Context(), []byte(`"hello"`)); err == nil {
			t.Errorf("%s: the next invocation has an answer", test.event)
		}
	}
}

func TestInitFails(t *testing.T) {
	for init, want := range map[string]string{
		"fatal": "no configuration\n", // in the output
		"error": "Runtime.Init: no configuration",
		"hang":  context.DeadlineExceeded.Error(),
	} {
		timeout := time.Minute
		if init == "hang" {
			timeout = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err := lambdaapi.Start(ctx, &lambdaapi.Options{Binary: os.Args[0], Env: map[string]string{"INIT": init}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", init, err, want)
		}
	}
}

func TestGoroutines(t *testing.T) {
	f := start(t, &lambdaapi.Options{})
	if err := f.Freeze(); err != nil {
		t.Fatal(err)
	}
	stacks, err := f.Goroutines(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found bool
	for _, stack := range stacks {
		found = found || strings.Contains(stack, "lambda.StartWithOptions(")
		if strings.Contains(stack, "runtime.bgsweep") {
			t.Errorf("a goroutine of the runtime:\n%s", stack)
		}
	}
	if !found {
		t.Errorf("the loop of the function is not among:\n%s", strings.Join(stacks, "\n\n"))
	}
}
