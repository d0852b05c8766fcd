package smtest

import "strings"

const (
	lowercase   = "abcdefghijklmnopqrstuvwxyz"
	uppercase   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	numbers     = "0123456789"
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

type getRandomPasswordInput struct {
	PasswordLength          *int   `json:"PasswordLength"`
	ExcludeCharacters       string `json:"ExcludeCharacters"`
	ExcludeNumbers          bool   `json:"ExcludeNumbers"`
	ExcludePunctuation      bool   `json:"ExcludePunctuation"`
	ExcludeUppercase        bool   `json:"ExcludeUppercase"`
	ExcludeLowercase        bool   `json:"ExcludeLowercase"`
	IncludeSpace            bool   `json:"IncludeSpace"`
	RequireEachIncludedType *bool  `json:"RequireEachIncludedType"`
}

func (in getRandomPasswordInput) target() target { return target{} }

type getRandomPasswordOutput struct {
	RandomPassword string
}

func getRandomPassword(req *request, in getRandomPasswordInput) (getRandomPasswordOutput, *Error) {
	var none getRandomPasswordOutput
	n := 32
	if in.PasswordLength != nil {
		if n = *in.PasswordLength; n < 1 || n > 4096 {
			return none, constraint("passwordLength", "Member must be between 1 and 4096")
		}
	}
	if err := checkLength("excludeCharacters", in.ExcludeCharacters, 0, 4096); err != nil {
		return none, err
	}
	if err := req.authorizeOn(req.iamAction(), "*", "*"); err != nil {
		return none, err
	}
	sets := in.sets()
	all := strings.Join(sets, "")
	if in.IncludeSpace && !strings.Contains(in.ExcludeCharacters, " ") {
		all += " "
	}
	if all == "" {
		return none, invalidParameter("The password can't be empty: all characters are excluded.")
	}
	out := make([]byte, 0, n)
	if in.RequireEachIncludedType == nil || *in.RequireEachIncludedType {
		if n < len(sets) {
			return none, invalidParameter("The password length is too short to include each type of character: it must be at least %d.", len(sets))
		}
		for _, set := range sets {
			out = append(out, pick(set))
		}
	}
	for len(out) < n {
		out = append(out, pick(all))
	}
	for i := n - 1; i > 0; i-- {
		j := randomBelow(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return getRandomPasswordOutput{RandomPassword: string(out)}, nil
}

// sets returns the characters of each included type. A type of which nothing is
// left counts as excluded; a space is of no type.
func (in getRandomPasswordInput) sets() []string {
	var out []string
	for _, t := range []struct {
		set     string
		exclude bool
	}{
		{lowercase, in.ExcludeLowercase},
		{uppercase, in.ExcludeUppercase},
		{numbers, in.ExcludeNumbers},
		{punctuation, in.ExcludePunctuation},
	} {
		set := strings.Map(func(r rune) rune {
			if strings.ContainsRune(in.ExcludeCharacters, r) {
				return -1
			}
			return r
		}, t.set)
		if !t.exclude && set != "" {
			out = append(out, set)
		}
	}
	return out
}
