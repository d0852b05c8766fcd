// Command service is an HTTP service on PostgreSQL, as it is deployed to Amazon ECS
// by task-definition.json and to Kubernetes by deployment.yaml. See docs/ecs-eks.md.
//
//	SECRET_ARN=arn:aws:secretsmanager:...   the database's secret, in Secrets Manager
//	SECRET_FILE=db.json                     instead of it, for work without AWS
//	SECRET_JSON='{"host": ...}'             the same
//	SECRET_TTL=5m                           see cache.Options
//	DATABASE_DSN='pool_max_conns=8'         what the secret does not say
//	ADDR=:8080                              where it listens
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
)

// grace is how long requests have to finish after SIGTERM. What comes after that, the
// SIGKILL of ECS (stopTimeout) or Kubernetes (terminationGracePeriodSeconds), has to
// come later.
const grace = 25 * time.Second

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	client, secretID, err := source(ctx)
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(cmp.Or(os.Getenv("SECRET_TTL"), "5m"))
	if err != nil {
		return fmt.Errorf("SECRET_TTL: %w", err)
	}
	c, err := cache.New(client, &cache.Options{TTL: ttl, Logger: slog.Default()})
	if err != nil {
		return err
	}
	defer c.Close() // after the pool, whose logins read from it
	pool, err := postgres.NewPool(ctx, c, secretID, &postgres.Options{DSN: os.Getenv("DATABASE_DSN")})
	if err != nil {
		return err
	}
	defer pool.Close()
	return serve(ctx, (&service{secret: c.Handle(secretID), pool: pool}).routes())
}

// source returns what the cache reads from, and the ID of the secret there.
func source(ctx context.Context) (cache.API, string, error) {
	arn, file, value := os.Getenv("SECRET_ARN"), os.Getenv("SECRET_FILE"), os.Getenv("SECRET_JSON")
	switch {
	case arn != "" && file == "" && value == "":
		cfg, err := config.LoadDefaultConfig(ctx)
		return secretsmanager.NewFromConfig(cfg), arn, err
	case arn == "" && file != "" && value == "":
		text, err := os.ReadFile(file)
		return cache.Static(map[string]string{file: string(text)}), file, err
	case arn == "" && file == "" && value != "":
		return cache.Static(map[string]string{"SECRET_JSON": value}), "SECRET_JSON", nil
	}
	return nil, "", errors.New("set SECRET_ARN to the ARN of the database's secret or, for work without AWS, SECRET_FILE or SECRET_JSON to its value; one of them alone")
}

// serve answers requests until ctx ends, and then those that it has taken.
func serve(ctx context.Context, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cmp.Or(os.Getenv("ADDR"), ":8080"))
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "listening", slog.String("addr", listener.Addr().String()))
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	slog.InfoContext(ctx, "stopping")
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(shutdown); err != nil {
		// Cuts off who is not done, or closing the pool would wait for them.
		return errors.Join(err, server.Close())
	}
	return nil
}

type service struct {
	secret *cache.Handle
	pool   *pgxpool.Pool
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("POST /visits/{name}", s.visit)
	return mux
}

// health answers 200 as long as there is a value to log in with, be it one that could
// not be refreshed: a service that lets itself be restarted because Secrets Manager is
// down makes two outages of one.
func (s *service) health(w http.ResponseWriter, r *http.Request) {
	// Status reads nothing. A pool that is idle does not either, so without this a
	// service that nobody visits would be healthy until MaxStale and then no more; and
	// one that was not, since it got no visits, never again.
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	_, _ = s.secret.Get(ctx) // the cache logs what fails

	status := s.secret.Status()
	w.Header().Set("Content-Type", "application/json")
	if status.State == cache.Dead {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// Status.Err is not for everybody who may ask: it names accounts and roles.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"state": status.State, "version_id": status.VersionID, "age_seconds": int(status.Age.Seconds()),
	})
}

// visit counts a visit.
func (s *service) visit(w http.ResponseWriter, r *http.Request) {
	var visits int
	err := s.pool.QueryRow(r.Context(), `INSERT INTO visits (name, n) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET n = visits.n + 1 RETURNING n`, r.PathValue("name")).Scan(&visits)
	if err != nil {
		slog.ErrorContext(r.Context(), "visit", slog.Any("error", err))
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, visits)
}
