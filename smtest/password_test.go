package smtest_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
	punct  = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

func TestGetRandomPassword(t *testing.T) {
	_, c := newServer(t)
	for name, tt := range map[string]struct {
		in     sm.GetRandomPasswordInput
		length int
		chars  string   // all that may be in it
		types  []string // one of each must be in it
	}{
		"default":        {length: 32, chars: lower + upper + digits + punct, types: []string{lower, upper, digits, punct}},
		"shortest":       {in: sm.GetRandomPasswordInput{PasswordLength: aws.Int64(4)}, length: 4, chars: lower + upper + digits + punct, types: []string{lower, upper, digits, punct}},
		"longest":        {in: sm.GetRandomPasswordInput{PasswordLength: aws.Int64(4096), IncludeSpace: aws.Bool(true)}, length: 4096, chars: lower + upper + digits + punct + " ", types: []string{lower, upper, digits, punct, " "}},
		"no punctuation": {in: sm.GetRandomPasswordInput{ExcludePunctuation: aws.Bool(true)}, length: 32, chars: lower + upper + digits, types: []string{lower, upper, digits}},
		"no letters": {
			in:     sm.GetRandomPasswordInput{ExcludeLowercase: aws.Bool(true), ExcludeUppercase: aws.Bool(true), PasswordLength: aws.Int64(2)},
			length: 2, chars: digits + punct, types: []string{digits, punct},
		},
		"no digits":          {in: sm.GetRandomPasswordInput{ExcludeNumbers: aws.Bool(true)}, length: 32, chars: lower + upper + punct, types: []string{lower, upper, punct}},
		"excluded":           {in: sm.GetRandomPasswordInput{ExcludeCharacters: aws.String(`:/@"'\` + lower[1:]), PasswordLength: aws.Int64(4)}, length: 4, chars: "a" + upper + digits + "!#$%&()*+,-.;<=>?[]^_`{|}~", types: []string{"a"}},
		"one without a type": {in: sm.GetRandomPasswordInput{PasswordLength: aws.Int64(1), RequireEachIncludedType: aws.Bool(false)}, length: 1, chars: lower + upper + digits + punct},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(map[string]bool)
			for range 50 {
				out, err := c.GetRandomPassword(t.Context(), &tt.in)
				if err != nil {
					t.Fatal(err)
				}
				p := *out.RandomPassword
				if len(p) != tt.length || strings.Trim(p, tt.chars) != "" {
					t.Fatalf("password %q, want %d of %q", p, tt.length, tt.chars)
				}
				for _, set := range tt.types {
					if !strings.ContainsAny(p, set) {
						t.Fatalf("password %q has none of %q", p, set)
					}
				}
				seen[p] = true
			}
			if tt.length > 3 && len(seen) < 45 {
				t.Errorf("50 passwords, only %d different ones", len(seen))
			}
		})
	}
	// The types are in no fixed order.
	var first strings.Builder
	for range 100 {
		out, err := c.GetRandomPassword(t.Context(), &sm.GetRandomPasswordInput{PasswordLength: aws.Int64(4)})
		if err != nil {
			t.Fatal(err)
		}
		first.WriteByte((*out.RandomPassword)[0])
	}
	for _, set := range []string{lower, upper, digits, punct} {
		if !strings.ContainsAny(first.String(), set) {
			t.Errorf("none of 100 passwords begins with one of %q: %q", set, first.String())
		}
	}
	for name, in := range map[string]sm.GetRandomPasswordInput{
		"too short for the types": {PasswordLength: aws.Int64(3)},
		"zero":                    {PasswordLength: aws.Int64(0)},
		"too long":                {PasswordLength: aws.Int64(4097)},
		"nothing left":            {ExcludeCharacters: aws.String(lower + upper + digits + punct)},
	} {
		if out, err := c.GetRandomPassword(t.Context(), &in); err == nil {
			t.Errorf("%s: password %q, want an error", name, *out.RandomPassword)
		}
	}
}
