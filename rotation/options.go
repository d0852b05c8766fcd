package rotation

import (
	"log/slog"
	"time"
)

// Options are the settings of a [Handler]. The zero value of each field is its
// documented default.
type Options struct {
	// Password says what a generated password looks like.
	Password PasswordOptions

	// SettleTime is how long a step repeats reads whose answer does not fit the
	// rotation that it was called for: a value that is not found, a label that
	// is not there. Secrets Manager is eventually consistent, and a moment after
	// a write such answers are normal. It delays the error when the answer was
	// right, and must fit the function's timeout. Default 3 seconds. Negative: no
	// repetition.
	SettleTime time.Duration

	// ReplicaWait is how long testSecret waits, in all, until every read replica
	// accepts the new credential; a [Target] that is not [Replicated] has none.
	// It ends a second before ctx does, so that the error still gets out. The
	// tries grow further apart, to 5 s, each one that comes too early being a
	// failed login on that server. Default 30 seconds. Negative: one try.
	ReplicaWait time.Duration

	// Logger gets one line per step that was carried out, at Info; at Warn that
	// AWSCURRENT was refused and an older version acted in its place; and never a
	// value. Default: silent.
	Logger *slog.Logger
}

// PasswordOptions are those of GetRandomPassword. The zero value of each field is
// its documented default. Excluding all kinds of
// characters, or fewer of them than Length has room for, is an error of
// createSecret.
type PasswordOptions struct {
	// Length in characters. Default 32.
	Length int

	// ExcludeCharacters are kept out. Default: :/@"'\ which are those that AWS's
	// own PostgreSQL function keeps out, because they break connection strings
	// that are put together by hand. A space, which is in no password anyway,
	// excludes none.
	ExcludeCharacters string

	// ExcludeNumbers, ExcludePunctuation, ExcludeUppercase and ExcludeLowercase
	// keep all characters of that kind out. Default: none of them.
	ExcludeNumbers     bool
	ExcludePunctuation bool
	ExcludeUppercase   bool
	ExcludeLowercase   bool

	// AnyIncludedType allows passwords without a character of one of the kinds
	// that are not excluded (RequireEachIncludedType=false). Default: there is one
	// of each.
	AnyIncludedType bool
}

func (o *Options) withDefaults() Options {
	var v Options
	if o != nil {
		v = *o
	}
	if v.Password.Length <= 0 {
		v.Password.Length = 32
	}
	if v.Password.ExcludeCharacters == "" {
		v.Password.ExcludeCharacters = `:/@"'\`
	}
	if v.SettleTime == 0 {
		v.SettleTime = 3 * time.Second
	}
	if v.ReplicaWait == 0 {
		v.ReplicaWait = 30 * time.Second
	}
	if v.Logger == nil {
		v.Logger = slog.New(slog.DiscardHandler)
	}
	return v
}
