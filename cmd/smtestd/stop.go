package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/keyturn/keyturn/smtest"
)

// grace is how long rotations and requests may go on after the signal to end. Docker
// kills a container after 10 seconds.
const grace = 8 * time.Second

// stop ends the server: first the rotations, then the requests. The other way round
// a rotation function in a process of its own could not call back, and none could
// come to its end. What takes longer than grace is cut off.
func stop(web *http.Server, srv *smtest.Server, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	log.LogAttrs(ctx, slog.LevelInfo, "smtestd: ending")
	if err := srv.Drain(ctx); err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "smtestd: rotations cut off", slog.Any("error", err))
	}
	err := web.Shutdown(ctx)
	if err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "smtestd: requests cut off", slog.Any("error", err))
		err = web.Close()
	}
	srv.Close()
	return err
}
