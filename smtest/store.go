package smtest

import "time"

// A store holds the secrets of one account in one Region. The server's mu
// protects it.
type store struct {
	region, account string
	byName          map[string]*secret
}

func newStore(region, account string) *store {
	return &store{region: region, account: account, byName: make(map[string]*secret)}
}

// add makes a secret without a version. The name must be valid and free.
func (st *store) add(name string, now time.Time) *secret {
	sec := &secret{
		name:     name,
		arn:      "arn:aws:secretsmanager:" + st.region + ":" + st.account + ":secret:" + name + "-" + newSuffix(),
		created:  now,
		changed:  now,
		versions: make(map[string]*version),
		labels:   make(map[string]string),
	}
	st.byName[name] = sec
	return sec
}

// named returns the secret with that name, or nil. It is where a secret whose
// recovery window has passed goes away.
func (st *store) named(name string, now time.Time) *secret {
	sec := st.byName[name]
	if sec != nil && sec.deleted() && !now.Before(sec.deletion) {
		delete(st.byName, name)
		return nil
	}
	return sec
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
	missing := notFound("Secrets Manager can't find the specified secret.")
	a, ok := parseARN(id)
	if !ok {
		if !nameRE.MatchString(id) {
			return nil, validation(invalidName)
		}
		if sec := st.named(id, now); sec != nil {
			return sec, nil
		}
		return nil, missing
	}
	if a.region != st.region || a.account != st.account {
		return nil, missing
	}
	if a.hasSuffix() {
		n := len(a.resource) - 7
		if sec := st.named(a.resource[:n], now); sec != nil && sec.arn == id {
			return sec, nil
		}
		return nil, missing
	}
	if sec := st.named(a.resource, now); sec != nil {
		return sec, nil
	}
	return nil, missing
}
