package smtest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// logCall writes the line of a call that was answered. A request that is not as it
// should be may have a value anywhere; so what the line says of it is known to be an
// operation, a secret's id, a label, a version id.
func (s *Server) logCall(ctx context.Context, r *http.Request, c Call, began time.Time) {
	if !s.opts.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	add := func(key, value string, known bool) {
		switch {
		case value == "":
		case known:
			attrs = append(attrs, slog.String(key, value))
		default:
			attrs = append(attrs, slog.String(key, "(invalid)"))
		}
	}
	_, known := operations[c.Operation]
	add("operation", c.Operation, known)
	if !known && r.Method != http.MethodPost {
		add("method", r.Method, isMethod(r.Method))
	}
	add("secret_id", c.SecretID, areIDs(c.SecretID))
	add("stage", c.Stage, len(c.Stage) <= maxLabels*257)
	add("version_id", c.VersionID, len(c.VersionID) <= 64)
	add("code", c.Code, true)
	add("caller", c.Caller, true)
	add("region", c.Region, true)
	attrs = append(attrs, slog.Duration("duration", time.Since(began)))
	s.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "smtest: call", attrs...)
}

func areIDs(ids string) bool {
	for id := range strings.SplitSeq(ids, ",") {
		if _, ok := parseARN(id); !ok && !nameRE.MatchString(id) {
			return false
		}
	}
	return len(ids) <= 20*2049
}

func isMethod(m string) bool {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
