package smtest

import "time"

// The prices in most Regions, from https://aws.amazon.com/secrets-manager/pricing/:
// "$0.40 per secret per month. A replica secret is considered a distinct secret ...
// For secrets that are stored for less than a month, the price is prorated", and
// "$0.05 per 10,000 API calls".
const (
	usdPerSecretMonth = 0.40
	usdPerCall        = 0.05 / 10000
)

// A Bill is what AWS would ask for the use of a server in one month, at the prices
// of most Regions.
type Bill struct {
	// Month is when the month begins, in UTC.
	Month time.Time

	// SecretMonths is the number of secrets, replicas included, each for as much of
	// the month as it was there. A secret is free while it is marked for deletion.
	SecretMonths float64

	// Calls is the number of API calls, those that failed included. A
	// BatchGetSecretValue is one: the pricing page says nothing else of it.
	Calls int

	// SecretsUSD and CallsUSD are the prices of both.
	SecretsUSD, CallsUSD float64
}

// Total is the whole bill, in US dollars.
func (b Bill) Total() float64 { return b.SecretsUSD + b.CallsUSD }

// Bill returns the bill of the calendar month in which t lies, until now, for all
// accounts and Regions together. The methods of the Server cost nothing, only what
// they make: Put a secret, for example. What KMS and Lambda ask for is not in it.
func (s *Server) Bill(t time.Time) Bill {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.advance(timestamp())
	month := monthOf(t)
	u := s.meter.months[month]
	return Bill{
		Month: month, SecretMonths: u.secretMonths, Calls: u.calls,
		SecretsUSD: u.secretMonths * usdPerSecretMonth, CallsUSD: float64(u.calls) * usdPerCall,
	}
}

// A meter measures what is charged. The server's mu protects it.
type meter struct {
	secrets int       // how many are charged for
	at      time.Time // until when that is in months
	months  map[time.Time]usage
}

type usage struct {
	secretMonths float64
	calls        int
}

// count notes that there are n more secrets to be charged for, or fewer.
func (m *meter) count(n int, now time.Time) {
	m.advance(now)
	m.secrets += n
}

// call notes one API call.
func (m *meter) call(now time.Time) {
	m.advance(now)
	month := monthOf(now)
	u := m.months[month]
	u.calls++
	m.months[month] = u
}

// advance charges the secrets for the time until now, month by month. A month is as
// long as it is, so that a whole one costs the same price.
func (m *meter) advance(now time.Time) {
	if m.months == nil {
		m.months = make(map[time.Time]usage)
	}
	if m.at.IsZero() || !now.After(m.at) {
		m.at = now
		return
	}
	for m.at.Before(now) {
		month := monthOf(m.at)
		next := month.AddDate(0, 1, 0)
		end := next
		if now.Before(end) {
			end = now
		}
		if m.secrets > 0 {
			u := m.months[month]
			u.secretMonths += float64(m.secrets) * float64(end.Sub(m.at)) / float64(next.Sub(month))
			m.months[month] = u
		}
		m.at = end
	}
}

// mark marks the secret for deletion at that time, or not any more if it is zero.
func (sec *secret) mark(deletion, now time.Time) {
	switch {
	case !sec.deleted() && !deletion.IsZero():
		sec.store.meter.count(-1, now)
	case sec.deleted() && deletion.IsZero():
		sec.store.meter.count(1, now)
	}
	sec.deletion = deletion
}

func monthOf(t time.Time) time.Time {
	y, month, _ := t.UTC().Date()
	return time.Date(y, month, 1, 0, 0, 0, 0, time.UTC)
}
