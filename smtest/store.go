package smtest

import (
	"strings"
	"time"
)

// A place is where a name means one secret.
type place struct{ account, region string }

// A store holds the secrets of one account in one Region. The server's mu
// protects it.
type store struct {
	place

	opts      *Options // of the server
	journal   *journal // of the server
	byName    map[string]*secret
	seq       uint64               // of the secret that was created last
	lists     map[order][]*secret  // for ListSecrets; emptied when a secret comes or goes
	lingering map[string]time.Time // names that are not free yet, and when they are
	meter     *meter
}

// storeLocked returns the store of an account in a Region.
func (s *Server) storeLocked(account, region string) *store {
	at := place{account, region}
	st := s.stores[at]
	if st == nil {
		st = &store{
			place:     at,
			opts:      &s.opts,
			journal:   s.journal,
			byName:    make(map[string]*secret),
			lists:     make(map[order][]*secret),
			lingering: make(map[string]time.Time),
			meter:     &s.meter,
		}
		s.stores[at] = st
	}
	return st
}

// homeLocked returns the store that the Server's own methods mean.
func (s *Server) homeLocked() *store {
	return s.storeLocked(s.opts.Account, s.opts.Region)
}

// findLocked returns the secret that id names to the Server's own methods: a name
// at home, or an ARN of any account and Region.
func (s *Server) findLocked(id string, now time.Time) (*secret, *Error) {
	if a, ok := parseARN(id); ok {
		if st := s.stores[place{a.account, a.region}]; st != nil {
			return st.find(id, now)
		}
	}
	return s.homeLocked().find(id, now)
}

// resolveLocked returns the secret that id names to a caller with that store: a
// name or an ARN in it, or the full ARN of another account's secret in the same
// Region.
func (s *Server) resolveLocked(st *store, id string, now time.Time) (*secret, *Error) {
	if a, ok := parseARN(id); ok && a.account != st.account && a.hasSuffix() {
		if other := s.stores[place{a.account, st.region}]; other != nil {
			return other.find(id, now)
		}
	}
	return st.find(id, now)
}

// partition returns the partition of a Region, the second part of its ARNs.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

// newSecret makes a secret without a version, which is not in the store yet.
func (st *store) newSecret(name string, now time.Time) *secret {
	return &secret{
		store:   st,
		name:    name,
		arn:     st.arn(name, newSuffix()),
		created: now,
		content: &content{
			changed:  now,
			versions: make(map[string]*version),
			labels:   make(map[string]string),
		},
	}
}

// enter puts a secret into the store. The name must be valid and free.
func (st *store) enter(sec *secret) {
	st.seq++
	sec.seq = st.seq
	st.byName[sec.name] = sec
	st.journal.sawLocked(sec)
	clear(st.lists)
	st.meter.count(1, timestamp())
}

func (st *store) arn(name, suffix string) string {
	return "arn:" + partition(st.region) + ":secretsmanager:" + st.region + ":" + st.account + ":secret:" + name + "-" + suffix
}

// drop forgets a secret for good.
func (st *store) drop(sec *secret) {
	st.journal.sawLocked(sec)
	delete(st.byName, sec.name)
	clear(st.lists)
	if !sec.deleted() {
		st.meter.count(-1, timestamp())
	}
}

// linger keeps the name of a secret that was deleted by force from being free at
// once.
func (st *store) linger(name string, now time.Time) {
	if st.opts.NameLinger > 0 {
		st.lingering[name] = now.Add(st.opts.NameLinger)
	}
}

// lingers reports whether a name is not free yet, though no secret has it.
func (st *store) lingers(name string, now time.Time) bool {
	until, ok := st.lingering[name]
	if ok && !now.Before(until) {
		delete(st.lingering, name)
		return false
	}
	return ok
}

// named returns the secret with that name, or nil. It is where a secret whose
// recovery window has passed goes away.
func (st *store) named(name string, now time.Time) *secret {
	sec := st.byName[name]
	if sec == nil {
		return nil
	}
	st.journal.sawLocked(sec)
	if sec.deleted() && !now.Before(sec.deletion) {
		st.drop(sec)
		return nil
	}
	return sec
}

func errMissing() *Error {
	return notFound("Secrets Manager can't find the specified secret.")
}

// find returns the secret that id names: a name, a full ARN, or an ARN without
// its suffix.
func (st *store) find(id string, now time.Time) (*secret, *Error) {
	if id == "" {
		return nil, constraint("secretId", "Member must not be null")
	}
	if err := checkLength("secretId", id, 1, 2048); err != nil {
		return nil, err
	}
	a, ok := parseARN(id)
	if !ok {
		if !nameRE.MatchString(id) {
			return nil, validation(invalidName)
		}
		if sec := st.named(id, now); sec != nil {
			return sec, nil
		}
		return nil, errMissing()
	}
	if a.region != st.region || a.account != st.account {
		return nil, errMissing()
	}
	if a.hasSuffix() {
		n := len(a.resource) - 7
		if sec := st.named(a.resource[:n], now); sec != nil && sec.arn == id {
			return sec, nil
		}
		return nil, errMissing()
	}
	if sec := st.named(a.resource, now); sec != nil {
		return sec, nil
	}
	return nil, errMissing()
}
