package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/keyturn/keyturn/smtest"
)

const (
	statusOK     = 0
	statusFailed = 1
	statusUsage  = 2
)

// run is the program: it returns the exit status, and ends when ctx does.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return statusOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "smtestd: %v\nsmtestd -h explains the flags\n", err)
		return statusUsage
	case cfg.version:
		_, _ = fmt.Fprintln(stdout, version())
		return statusOK
	case cfg.healthcheck:
		err = check(ctx, cfg.listen)
	default:
		err = serve(ctx, cfg, stdout, stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "smtestd: %v\n", err)
		return statusFailed
	}
	return statusOK
}

// version is the module's version, as the go command recorded it.
func version() string {
	v := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return "smtestd " + v + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}

// serve runs the server until ctx ends, or until it cannot go on.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	var level slog.LevelVar // Info: what seeds the server is no request.
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: &level}))
	l, err := listen(ctx, cfg.listen, cfg.allowRemote)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()

	srv, data, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.close()) }()

	level.Set(slog.LevelDebug)
	web := &http.Server{
		Handler:           handler(guard(srv, log)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()
	log.LogAttrs(ctx, slog.LevelInfo, "smtestd: listening", slog.String("address", l.Addr().String()), slog.String("version", version()))
	if _, err = fmt.Fprintf(stdout, "AWS_ENDPOINT_URL_SECRETS_MANAGER=%s\n", endpoint(l.Addr())); err == nil {
		select {
		case <-ctx.Done():
		case err = <-served:
		case <-data.failed:
			err = data.failure()
		}
	}
	return errors.Join(err, stop(web, srv, log))
}

// open makes the server, with the secrets of the data file and of the seed file.
func open(ctx context.Context, cfg config, log *slog.Logger) (*smtest.Server, *dataFile, error) {
	data, err := openData(cfg.data)
	if err != nil {
		return nil, nil, err
	}
	opts := &smtest.Options{Region: cfg.region, Account: cfg.account, Logger: log}
	if cfg.data != "" {
		opts.Journal = data
	}
	srv := smtest.New(opts)
	for _, c := range cfg.callers {
		srv.AddCaller(smtest.Caller{ARN: c.arn, AccessKeyID: c.keyID})
	}
	for _, f := range cfg.functions {
		srv.AddFunction(f.arn, smtest.HTTPFunction(f.url, 0))
	}
	if cfg.anyFunction {
		srv.AddFunction("*", srv.KeepValue())
	}
	// Only now: rotations that were cut off start anew.
	err = data.load(srv)
	if err == nil && cfg.seed != "" {
		err = seed(ctx, srv, cfg.seed, log)
	}
	if err == nil {
		err = data.start(srv)
	}
	if err != nil {
		srv.Close()
		return nil, nil, errors.Join(err, data.close())
	}
	return srv, data, nil
}

// handler adds the health check to the API. It is no [http.ServeMux]: that would
// answer some requests by redirects.
func handler(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			api.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
	})
}

// guard keeps net/http from printing what a panic of the API is with: that may be a
// secret's value.
func guard(api http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler { //nolint:errorlint // It is no wrapped one that net/http knows.
				log.LogAttrs(r.Context(), slog.LevelError, "smtestd: panic",
					slog.String("type", fmt.Sprintf("%T", v)), slog.String("stack", string(debug.Stack())))
			}
			panic(http.ErrAbortHandler)
		}()
		api.ServeHTTP(w, r)
	})
}

// check asks the server at an address whether it is up.
func check(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("-listen %s: it is not HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	// No proxy of the environment stands between a server and its own health check.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", r.URL, resp.Status)
	}
	return nil
}
