package smtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"slices"
	"strconv"
	"time"
)

// A cursor is where a page ended: what the order goes by, of its last entry. So a
// list that changes between two pages skips nothing and repeats nothing but what
// has moved.
type cursor struct {
	List string    `json:"l"` // which list it belongs to
	Time time.Time `json:"t"`
	Text string    `json:"n,omitempty"`
	Seq  uint64    `json:"s,omitempty"`
}

// token writes a cursor as a NextToken, which is opaque to the caller.
func (c cursor) token() string {
	body, err := json.Marshal(c)
	if err != nil {
		panic("smtest: cursor of type that JSON cannot hold") // A bug here: the type is ours.
	}
	sum := crc32.ChecksumIEEE(body)
	return base64.RawURLEncoding.EncodeToString(append(body, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)))
}

// parseToken reads a NextToken of a list; nil for an empty one. A token that was not
// given out for that list is refused.
func parseToken(token, list string) (*cursor, *Error) {
	if token == "" {
		return nil, nil
	}
	invalid := &Error{Code: codeInvalidToken, Message: "Invalid NextToken."}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 4 {
		return nil, invalid
	}
	body, tail := raw[:len(raw)-4], raw[len(raw)-4:]
	sum := uint32(tail[0])<<24 | uint32(tail[1])<<16 | uint32(tail[2])<<8 | uint32(tail[3])
	var c cursor
	if crc32.ChecksumIEEE(body) != sum || json.Unmarshal(body, &c) != nil || c.List != list {
		return nil, invalid
	}
	return &c, nil
}

// pageSize returns MaxResults, which is high if it is not said.
func pageSize(maxResults *int, high int) (int, *Error) {
	switch {
	case maxResults == nil:
		return high, nil
	case *maxResults < 1:
		return 0, constraint("maxResults", "Member must have value greater than or equal to 1")
	case *maxResults > high:
		return 0, constraint("maxResults", "Member must have value less than or equal to "+strconv.Itoa(high))
	}
	return *maxResults, nil
}

// An order is how ListSecrets sorts. Secrets of which it thinks the same are in the
// order in which they were created.
type order struct {
	by   string // created-date, last-accessed-date, last-changed-date or name
	desc bool
}

func (o order) cursor(sec *secret) cursor {
	c := cursor{List: "secrets/" + o.by, Seq: sec.seq}
	if o.desc {
		c.List += "/desc"
	}
	switch o.by {
	case "last-accessed-date":
		c.Time = sec.accessed
	case "last-changed-date":
		c.Time = sec.changed
	case "name":
		c.Text = sec.name
	default:
		c.Time = sec.created
	}
	return c
}

func (o order) compare(a, b cursor) int {
	c := cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Seq, b.Seq))
	if o.desc {
		return -c
	}
	return c
}

// sorted returns the secrets of the store in that order, those past their recovery
// window too. The slice is kept for the next page: it must not be changed.
func (st *store) sorted(o order) []*secret {
	compare := func(a, b *secret) int { return o.compare(o.cursor(a), o.cursor(b)) }
	list := st.lists[o]
	switch {
	case list == nil:
		list = make([]*secret, 0, len(st.byName))
		for _, sec := range st.byName {
			list = append(list, sec)
		}
		slices.SortFunc(list, compare)
		st.lists[o] = list
	case o.changes() && !slices.IsSortedFunc(list, compare):
		slices.SortFunc(list, compare)
	}
	return list
}

// changes reports whether a secret's place in the order may change.
func (o order) changes() bool {
	return o.by == "last-accessed-date" || o.by == "last-changed-date"
}

// page returns the next secrets after a cursor that match, at most limit, and the
// cursor to go on from; nil at the end.
func (st *store) page(o order, after *cursor, limit int, match func(*secret) bool) (out []*secret, next *cursor) {
	all := st.sorted(o)
	first := 0
	if after != nil {
		i, found := slices.BinarySearchFunc(all, *after, func(sec *secret, c cursor) int { return o.compare(o.cursor(sec), c) })
		if first = i; found {
			first++
		}
	}
	for _, sec := range all[first:] {
		if !match(sec) {
			continue
		}
		if len(out) == limit {
			c := o.cursor(out[limit-1])
			return out, &c
		}
		out = append(out, sec)
	}
	return out, nil
}
