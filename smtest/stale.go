package smtest

import "time"

// Reads may be stale: "All Secrets Manager operations are eventually consistent". A
// Fault with Stale makes a read see the secrets as they were that long ago. What
// they were is only remembered while there is such a fault, from then on.

// A past is what a content was until some time.
type past struct {
	content *content // nil if there was no secret
	until   time.Time
	epoch   uint64 // of the server
}

// rememberLocked notes what the secret holds, for readers that are behind. It must
// be called before each change of a content.
func (s *Server) rememberLocked(sec *secret, now time.Time) {
	horizon := s.staleLocked()
	if n := len(sec.history); horizon == 0 || n > 0 && sec.history[n-1].epoch != s.epoch {
		sec.history = nil
	}
	if horizon == 0 {
		return
	}
	for len(sec.history) > 0 && !sec.history[0].until.After(now.Add(-horizon)) {
		sec.history = sec.history[1:]
	}
	// Of several changes at one instant nobody sees what was in between.
	if n := len(sec.history); n == 0 || sec.history[n-1].until.Before(now) {
		sec.history = append(sec.history, &past{content: sec.copyContent(), until: now, epoch: s.epoch})
	}
}

// rememberTargetsLocked is rememberLocked for the secrets that a call may change.
// The function it returns must be called when the call has had its effect, and
// remembers that the secrets it made were not there.
func (s *Server) rememberTargetsLocked(req *request) (done func()) {
	if s.staleLocked() == 0 || reads[req.operation] {
		return func() {}
	}
	var missing []string
	for _, id := range req.target.ids {
		sec, err := s.resolveLocked(req.store, id, req.now)
		if err != nil {
			missing = append(missing, id)
			continue
		}
		s.rememberLocked(sec, req.now)
	}
	return func() {
		for _, id := range missing {
			if sec, err := s.resolveLocked(req.store, id, req.now); err == nil {
				s.rememberNewLocked(sec, req.now)
			}
		}
	}
}

// rememberNewLocked notes that there was no such secret until now.
func (s *Server) rememberNewLocked(sec *secret, now time.Time) {
	if s.staleLocked() > 0 {
		sec.history = []*past{{until: now, epoch: s.epoch}}
	}
}

// staleLocked returns how far behind a reader can be, zero if there is no fault that
// makes one so.
func (s *Server) staleLocked() time.Duration {
	var out time.Duration
	for _, in := range s.faults {
		out = max(out, in.Stale)
	}
	return out
}

// reads are the operations that change nothing, which are those that can be stale.
var reads = map[string]bool{
	"BatchGetSecretValue":  true,
	"DescribeSecret":       true,
	"GetRandomPassword":    true,
	"GetResourcePolicy":    true,
	"GetSecretValue":       true,
	"ListSecretVersionIds": true,
	"ListSecrets":          true,
}

// see returns the secret as the request's reader sees it, nil if it is not there
// for it yet.
func (req *request) see(sec *secret) *secret {
	if req.stale == 0 || !reads[req.operation] {
		return sec
	}
	at := req.now.Add(-req.stale)
	for _, p := range sec.history {
		switch {
		case !p.until.After(at) || p.epoch != req.server.epoch:
		case p.content == nil:
			return nil
		default:
			out := *sec
			out.content = p.content
			return &out
		}
	}
	return sec
}
