package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// errDSN replaces the driver's own error, which quotes the text: a password that
// was put there against the rules, and broke it, would show.
var errDSN = errors.New("mysql: Options.DSN cannot be parsed; it is [network[(address)]]/dbname[?name=value&...], " +
	"as in tcp(host:port)/app?parseTime=true")

// parameters are what the driver knows by name. Of any other one it takes all
// values, for a system variable of the server.
var parameters = []string{
	"allowAllFiles", "allowCleartextPasswords", "allowFallbackToPlaintext", "allowNativePasswords", "allowOldPasswords",
	"checkConnLiveness", "clientFoundRows", "columnsWithAlias", "compress", "connectionAttributes", "interpolateParams", "loc",
	"maxAllowedPacket", "multiStatements", "parseTime", "readTimeout", "rejectReadOnly", "serverPubKey", "timeTruncate",
	"timeout", "tls", "writeTimeout",
}

// readDSN has the driver parse the text, and returns what the text says of the
// address: in the driver's own result what was said looks like its default.
func readDSN(text string) (*mysql.Config, address, error) {
	if text == "" {
		return mysql.NewConfig(), address{network: "tcp"}, nil
	}
	before, params := split(text)
	for pair := range strings.SplitSeq(params, "&") {
		if strings.HasPrefix(pair, "strict=") { // the driver panics
			return nil, address{}, errors.New("mysql: Options.DSN says strict, which the driver does not know any more; take it out")
		}
	}
	cfg, err := mysql.ParseDSN(text)
	if err != nil {
		return nil, address{}, describe(err, params)
	}
	for name, value := range map[string]string{"user": cfg.User, "password": cfg.Passwd} {
		if value != "" {
			return nil, address{}, fmt.Errorf("mysql: Options.DSN names a %s; take it out, user and password are the secret's", name)
		}
	}
	// The driver has resolved tls=, with the name of a host that may not be the
	// one that is dialled. That is done again when it is known.
	cfg.TLS = nil
	network, rest, _ := strings.Cut(before, "(")
	a, err := readAddress("Options.DSN", network, strings.TrimSuffix(rest, ")"))
	return cfg, a, err
}

// split returns what the driver takes for the address, of which user and password
// are cut off, and for the parameters. The text has a slash, or is no DSN.
func split(text string) (before, params string) {
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return "", ""
	}
	before = text[:i]
	before = before[strings.LastIndexByte(before, '@')+1:]
	_, params, _ = strings.Cut(text[i+1:], "?")
	return before, params
}

// describe tells what is wrong with a DSN without quoting it: by the driver's
// fixed texts, or by the name of the parameter whose value it does not take.
func describe(err error, params string) error {
	if text, ok := strings.CutPrefix(err.Error(), "invalid DSN: "); ok {
		return fmt.Errorf("%w: %s", errDSN, text)
	}
	for pair := range strings.SplitSeq(params, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains(parameters, name) {
			continue
		}
		if _, err := mysql.ParseDSN("/?" + pair); err != nil {
			return fmt.Errorf("%w: the driver does not take the value of %s", errDSN, name)
		}
	}
	return errDSN
}
