package smtest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Save writes the state of the server as it is at one instant: the secrets of all
// accounts and Regions, for [Server.Load]. THE VALUES ARE IN IT IN PLAIN TEXT. Faults,
// functions, callers and the call log are not.
//
// The format is one JSON object per line. The first has "format":"smtest", the
// "version" of the format, which is 1, and in "records" how many of the lines that
// follow are of this state and not of a journal after it.
func (s *Server) Save(w io.Writer) error {
	secrets := s.saved()
	out := bufio.NewWriterSize(w, 1<<16)
	_, err := out.Write(line(header{Format: stateFormat, Version: stateVersion, Records: len(secrets)}))
	for _, sec := range secrets {
		if err == nil {
			_, err = out.Write(line(record{Secrets: []*savedSecret{sec}}))
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("smtest: save: %w", err)
	}
	return nil
}

// saved returns all secrets in the order of their ARNs. What they share with the
// server's never changes.
func (s *Server) saved() []*savedSecret {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*savedSecret
	for _, st := range s.stores {
		for _, sec := range st.byName {
			out = append(out, sec.saveAll())
		}
	}
	slices.SortFunc(out, func(a, b *savedSecret) int { return cmp.Compare(a.ARN, b.ARN) })
	return out
}
