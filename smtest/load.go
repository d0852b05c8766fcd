package smtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Load brings back the state that [Server.Save] wrote, with the changes that
// [Options.Journal] got after that, to a server that has no secret yet. The last line
// may be torn off: a crash leaves that of a change which nobody was told of. Anything
// else that is not as Save and the journal write it is an error, which never shows a
// value, and nothing is loaded.
//
// A rotation that was running starts anew, as one that failed is retried, if it was by
// RotateSecret or a schedule; so the functions must be there before. Schedules go on,
// and what was due in the meantime is done once. Secrets of [Server.PutManaged] have
// lost their Manager.
//
// What Load does is not in a journal. One that is to go on begins with what Save writes
// after it.
func (s *Server) Load(r io.Reader) error {
	state, err := readState(r)
	if err != nil {
		return fmt.Errorf("smtest: load: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.stores {
		if len(st.byName) > 0 {
			return errors.New("smtest: load: the server has secrets already")
		}
	}
	stores := s.stores
	s.stores = make(map[place]*store)
	for _, load := range []func(*loadedSecret) error{s.loadPrimaryLocked, s.loadReplicaLocked, s.joinReplicasLocked} {
		for _, arn := range slices.Sorted(maps.Keys(state)) {
			if err := load(state[arn]); err != nil {
				s.stores = stores
				return fmt.Errorf("smtest: load: secret %s: %w", quote(arn), err)
			}
		}
	}
	now := timestamp()
	for _, arn := range slices.Sorted(maps.Keys(state)) {
		s.resumeLocked(state[arn], now)
	}
	return nil
}

// resumeLocked goes on with what a secret was at when its state was saved.
func (s *Server) resumeLocked(l *loadedSecret, now time.Time) {
	sec := s.storeLocked(l.id.account, l.id.region).byName[l.id.name()]
	if run := l.Rotation.Run; run != nil {
		switch {
		case run.Temporary:
			sec.dropTemporary(run.Token)
		case run.Attempt >= 0 && sec.rotation.on():
			sec.rotation.retryAt, sec.rotation.failures = now, run.Attempt
		}
	}
	s.awaitLocked(sec, now)
}

// A loadedSecret is what the records say of a secret, the later ones on top.
type loadedSecret struct {
	*savedSecret

	id       arnID
	versions map[string]*version
}

// readState reads a state, by ARN.
func readState(r io.Reader) (map[string]*loadedSecret, error) {
	state := make(map[string]*loadedSecret)
	in := bufio.NewReaderSize(r, 1<<16)
	var h header
	for n := 0; ; n++ {
		text, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return nil, errors.New("this is not a state of smtest")
		case errors.Is(err, io.EOF) && n <= h.Records:
			return nil, fmt.Errorf("it is cut off: of %d records there are %d", h.Records, n-1)
		case errors.Is(err, io.EOF):
			return state, nil
		case err != nil:
			return nil, err
		case n == 0:
			err = h.read(text)
		default:
			err = apply(state, text)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
}

func (h *header) read(text []byte) error {
	// Not strict: another release's state is to be told from another program's file.
	if err := json.Unmarshal(text, h); err != nil || h.Format != stateFormat {
		return errors.New("this is not a state of smtest")
	}
	if h.Version != stateVersion {
		return fmt.Errorf("the state has version %d, and this release knows version %d alone", h.Version, stateVersion)
	}
	return nil
}

// apply adds a record to the state.
func apply(state map[string]*loadedSecret, text []byte) error {
	var r record
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		return errDamaged // Not err: it may quote a value.
	}
	for _, arn := range r.Removed {
		delete(state, arn)
	}
	for _, saved := range r.Secrets {
		if saved == nil {
			return errDamaged
		}
		id, ok := parseARN(saved.ARN)
		if !ok || !id.hasSuffix() {
			return errDamaged
		}
		sec := &loadedSecret{savedSecret: saved, id: id, versions: make(map[string]*version)}
		if was := state[saved.ARN]; was != nil {
			sec.versions = was.versions
		}
		for _, v := range saved.Versions {
			loaded := v.load()
			if was := sec.versions[v.ID]; was != nil && loaded.value == nil {
				loaded.value = was.value
			}
			sec.versions[v.ID] = loaded
		}
		for _, gone := range saved.Gone {
			delete(sec.versions, gone)
		}
		state[saved.ARN] = sec
	}
	return nil
}

var errDamaged = errors.New("this is damaged")

func (s *Server) loadPrimaryLocked(l *loadedSecret) error {
	if l.Primary != "" {
		return nil
	}
	for label, id := range l.Labels {
		if l.versions[id] == nil {
			return fmt.Errorf("there is no version for label %s", quote(label))
		}
	}
	if v := l.versions[l.Labels[labelCurrent]]; v != nil && v.value == nil {
		return errors.New("it has no current value")
	}
	if l.Rotation.Rules != nil && l.Rotation.Since.IsZero() {
		return errors.New("its rotation schedule has no beginning") // It would be counted from the year 1 on.
	}
	c := &content{description: l.Description, kind: l.Kind, changed: l.Changed, versions: l.versions, labels: l.Labels}
	if c.labels == nil {
		c.labels = make(map[string]string)
	}
	if l.Tags != nil {
		c.tags = make([]tag, len(*l.Tags))
		for i, t := range *l.Tags {
			c.tags[i] = tag(t)
		}
	}
	if l.Policy != "" {
		var err error
		if c.policy, err = parsePolicy(l.Policy, resourcePolicy); err != nil {
			return fmt.Errorf("its policy: %w", err)
		}
	}
	return s.loadLocked(l, c)
}

// loadReplicaLocked gives a replica the content of its primary, which is loaded.
func (s *Server) loadReplicaLocked(l *loadedSecret) error {
	if l.Primary == "" {
		return nil
	}
	var primary *secret
	if st := s.stores[place{l.id.account, l.Primary}]; st != nil {
		primary = st.byName[l.id.name()]
	}
	if primary == nil {
		return errors.New("its primary is missing")
	}
	return s.loadLocked(l, primary.content)
}

func (s *Server) loadLocked(l *loadedSecret, c *content) error {
	st, name := s.storeLocked(l.id.account, l.id.region), l.id.name()
	if other := st.byName[name]; other != nil {
		return fmt.Errorf("%s has the same name", quote(other.arn))
	}
	st.byName[name] = &secret{
		content: c, store: st, name: name, arn: l.ARN, seq: l.Seq,
		kmsKey: l.KMSKey, created: l.Created, accessed: l.Accessed, deletion: l.Deletion,
		owner: l.Owner, primary: l.Primary, rotation: l.Rotation.load(),
	}
	st.seq = max(st.seq, l.Seq)
	return nil
}

// joinReplicasLocked tells a primary of its replicas, which are loaded.
func (s *Server) joinReplicasLocked(l *loadedSecret) error {
	sec := s.storeLocked(l.id.account, l.id.region).byName[l.id.name()]
	for _, r := range l.Replicas {
		joined := &replication{region: r.Region, kmsKey: r.KMSKey, failed: r.Failed}
		if r.Failed == "" {
			if st := s.stores[place{l.id.account, r.Region}]; st != nil {
				joined.sec = st.byName[sec.name]
			}
			if joined.sec == nil || joined.sec.primary != l.id.region {
				return fmt.Errorf("its replica in %s is missing", quote(r.Region))
			}
		}
		sec.replicas = append(sec.replicas, joined)
	}
	return nil
}
