package smtest

import (
	"context"
	"fmt"
)

// Drain waits until no rotation is running, or until ctx ends: then its error is
// returned, and [Server.Close] cuts the rotations off. It is for the orderly end of
// a server: it must go on answering meanwhile, for rotation functions call it.
func (s *Server) Drain(ctx context.Context) error {
	for {
		r := s.anyRun()
		if r == nil {
			return nil
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("smtest: wait for the rotation of %s: %w", quote(r.sec.arn), ctx.Err())
		}
	}
}

func (s *Server) anyRun() *rotation {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.runs {
		return r
	}
	return nil
}
