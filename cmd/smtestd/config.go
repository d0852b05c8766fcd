package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
)

// usage is what -h prints. It fits a screen of 24 lines.
const usage = `usage: smtestd [flags]

AWS Secrets Manager on a port, for tests and local work. Clients need any
credentials and AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:4566.

  -listen HOST:PORT    where to listen (127.0.0.1:4566; port 0: a free one)
  -allow-remote        let -listen be an address that other machines can reach
  -data FILE           keep the state, values in plain text, in FILE
  -seed FILE           create the secrets of a JSON file that are not there yet
  -region REGION       of requests that are not signed for one (us-east-1)
  -account ID          of requests with any other access key (123456789012)
  -access-key KEY=WHO  an access key's account id, or the ARN of its principal
  -rotation-function ARN=URL  where to POST the events for a rotation function
  -any-rotation-function  every other ARN is a function that rotates to a copy
  -healthcheck         ask the server at -listen whether it is up, and end
  -version             print the version, and end

-access-key and -rotation-function may be given several times.
Exit status: 0 ended by a signal, 1 failed, 2 wrong command line.
Manual: go doc github.com/keyturn/keyturn/cmd/smtestd
`

// A config is the command line.
type config struct {
	listen          string
	allowRemote     bool
	data, seed      string
	region, account string
	callers         []caller
	functions       []function
	anyFunction     bool
	healthcheck     bool
	version         bool
}

// A caller is who signs with an access key.
type caller struct{ keyID, arn string }

// A function is where the events of a rotation function go.
type function struct{ arn, url string }

// parse reads the command line. It writes nothing; the error is [flag.ErrHelp] for -h.
func parse(args []string) (config, error) {
	var c config
	fs := c.flags()
	if err := fs.Parse(args); err != nil {
		return config{}, err
	}
	if fs.NArg() > 0 {
		return config{}, fmt.Errorf("unexpected argument %q: there are only flags", fs.Arg(0))
	}
	return c, nil
}

func (c *config) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("smtestd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.listen, "listen", "127.0.0.1:4566", "")
	fs.BoolVar(&c.allowRemote, "allow-remote", false, "")
	fs.StringVar(&c.data, "data", "", "")
	fs.StringVar(&c.seed, "seed", "", "")
	fs.Func("region", "", matches(&c.region, regionRE, "a Region such as eu-west-1"))
	fs.Func("account", "", matches(&c.account, accountRE, "an account id of 12 digits"))
	fs.Func("access-key", "", c.addCaller)
	fs.Func("rotation-function", "", c.addFunction)
	fs.BoolVar(&c.anyFunction, "any-rotation-function", false, "")
	fs.BoolVar(&c.healthcheck, "healthcheck", false, "")
	fs.BoolVar(&c.version, "version", false, "")
	return fs
}

var (
	regionRE    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,3}-[0-9]$`)
	accountRE   = regexp.MustCompile(`^[0-9]{12}$`)
	keyIDRE     = regexp.MustCompile(`^\w{16,128}$`)
	principalRE = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|user/[\w+=,.@/-]+)|sts::[0-9]{12}:assumed-role/[\w+=,.@-]+/[\w+=,.@-]+)$`)
)

func matches(field *string, re *regexp.Regexp, what string) func(string) error {
	return func(value string) error {
		if !re.MatchString(value) {
			return errors.New("it is not " + what)
		}
		*field = value
		return nil
	}
}

func (c *config) addCaller(value string) error {
	keyID, who, _ := strings.Cut(value, "=")
	switch {
	case !keyIDRE.MatchString(keyID):
		return errors.New("an access key id has 16 to 128 letters and digits, before the first =")
	case accountRE.MatchString(who):
		who = "arn:aws:iam::" + who + ":root"
	case !principalRE.MatchString(who):
		return errors.New("after the = is neither an account id of 12 digits nor the ARN of a user or of a role's session")
	}
	c.callers = append(c.callers, caller{keyID: keyID, arn: who})
	return nil
}

func (c *config) addFunction(value string) error {
	arn, target, ok := strings.Cut(value, "=")
	if !ok || !strings.HasPrefix(arn, "arn:") {
		return errors.New("it is not ARN=URL")
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("after the = is no http or https URL")
	}
	c.functions = append(c.functions, function{arn: arn, url: target})
	return nil
}
