package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// usage is what -h prints. It fits a screen of 24 lines.
const usage = `usage: keyturn check [flags] SECRET

Says what is wrong with a secret of AWS Secrets Manager (its name or ARN), which
policy is missing, and whether a rotation is stuck and how to free it. Changes
nothing and never shows a value.

  -login              log in with each version too, once on each server: failed
                      logins count where accounts lock
  -replica HOST:PORT  a replica to log in to, besides those in the secret's list
                      "replicas"; may be given several times
  -json               one JSON object instead of a table
  -region REGION      of the secret (of its ARN, or what the AWS CLI would take)
  -profile PROFILE    of the AWS CLI's configuration
  -endpoint-url URL   of Secrets Manager and STS
  -timeout DURATION   of all of it (1m)
  -version            print the version, and end

Exit status: 0 healthy, 1 a problem was found, 2 wrong command line, 3 something
could not be checked. Manual: go doc github.com/keyturn/keyturn/cmd/keyturn
`

// settings are the command line.
type settings struct {
	secret   string
	login    bool
	replicas []string
	json     bool
	region   string
	profile  string
	endpoint string
	timeout  time.Duration
	version  bool
}

// parse reads the command line. It writes nothing; the error is [flag.ErrHelp] for -h.
func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("keyturn", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.BoolVar(&s.login, "login", false, "")
	fs.BoolVar(&s.json, "json", false, "")
	fs.BoolVar(&s.version, "version", false, "")
	fs.StringVar(&s.region, "region", "", "")
	fs.StringVar(&s.profile, "profile", "", "")
	fs.StringVar(&s.endpoint, "endpoint-url", "", "")
	fs.DurationVar(&s.timeout, "timeout", time.Minute, "")
	fs.Func("replica", "", func(text string) error {
		host, port, err := net.SplitHostPort(text)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
			return errors.New("not a host and a port")
		}
		s.replicas = append(s.replicas, text)
		return nil
	})
	// Flags may stand anywhere: package flag alone would end at the first word.
	var words []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return settings{}, err
		}
		if args = fs.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if s.version {
		return s, nil
	}
	switch {
	case len(words) == 0:
		return settings{}, errors.New("no command: keyturn check SECRET")
	case words[0] != "check":
		return settings{}, fmt.Errorf("no such command: %q; there is keyturn check SECRET", words[0])
	case len(words) != 2 || strings.TrimSpace(words[1]) == "":
		return settings{}, errors.New("check takes one secret, by its name or ARN")
	case len(s.replicas) > 0 && !s.login:
		return settings{}, errors.New("-replica is for -login")
	case s.timeout <= 0:
		return settings{}, errors.New("-timeout must be positive")
	}
	if u, err := url.Parse(s.endpoint); s.endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return settings{}, errors.New("-endpoint-url must begin with http:// or https:// and name a host")
	}
	s.secret = words[1]
	return s, nil
}
