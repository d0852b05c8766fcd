package mysqlserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// A Kind is a make of server.
type Kind string

// The kinds there are.
const (
	MariaDB Kind = "MariaDB"
	MySQL   Kind = "MySQL" // 8.0 or newer
)

// Environment variables that name a folder of programs.
const (
	mariadbEnv = "KEYTURN_MARIADB_BIN" // mariadbd; mariadb-install-db beside it, or in ../bin or ../scripts
	mysqlEnv   = "KEYTURN_MYSQL_BIN"   // mysqld
)

// programs are what a server is run with.
type programs struct {
	server  []string // the command; where it is unpacked beside a C library of its own, that one's loader first
	install []string // the command that makes a data folder; nil: the server does
	args    []string // for both: where their files are
}

var (
	errNoMariaDB = errors.New("mysqlserver: no MariaDB server found (mariadbd and mariadb-install-db): run scripts/setup mariadb, " +
		"or set " + mariadbEnv + " to the folder of mariadbd")
	errNoMySQL = errors.New("mysqlserver: no MySQL server found (mysqld, 8.0 or newer): run scripts/setup mysql, " +
		"or set " + mysqlEnv + " to the folder of mysqld")
)

// find returns the programs of a kind. scripts/setup looks in the same places.
func find(ctx context.Context, kind Kind) (programs, error) {
	switch kind {
	case MariaDB:
		return findMariaDB()
	case MySQL:
		return findMySQL(ctx)
	}
	return programs{}, fmt.Errorf("mysqlserver: there is no kind %q of server; say MariaDB or MySQL", kind)
}

func findMariaDB() (programs, error) {
	if dir := os.Getenv(mariadbEnv); dir != "" {
		if p, ok := mariadbIn(dir); ok {
			return p, nil
		}
		return programs{}, errors.New("mysqlserver: " + mariadbEnv + " is " + strconv.Quote(dir) +
			", where mariadbd and mariadb-install-db are not: set it to the folder of mariadbd, or unset it")
	}
	for _, dir := range folders("mariadbd", "/usr/sbin", "/usr/libexec", "/opt/homebrew/opt/mariadb*/bin", "/usr/local/opt/mariadb*/bin") {
		if p, ok := mariadbIn(dir); ok {
			return p, nil
		}
	}
	return programs{}, errNoMariaDB
}

// mariadbIn returns the programs whose server is in a folder.
func mariadbIn(dir string) (programs, bool) {
	server, err := exec.LookPath(filepath.Join(dir, "mariadbd"))
	if err != nil {
		return programs{}, false
	}
	base := filepath.Dir(dir)
	for _, beside := range []string{dir, filepath.Join(base, "bin"), filepath.Join(base, "scripts")} {
		if install, err := exec.LookPath(filepath.Join(beside, "mariadb-install-db")); err == nil {
			return programs{server: []string{server}, install: []string{install}, args: []string{"--basedir=" + base}}, true
		}
	}
	return programs{}, false
}

func findMySQL(ctx context.Context) (programs, error) {
	if dir := os.Getenv(mysqlEnv); dir != "" {
		server := filepath.Join(dir, "mysqld")
		if !isMySQL(ctx, server) {
			return programs{}, errors.New("mysqlserver: " + mysqlEnv + " is " + strconv.Quote(dir) +
				", where there is no mysqld of MySQL 8.0 or newer that runs: set it to the folder of mysqld, or unset it")
		}
		return programs{server: []string{server}}, nil
	}
	for _, dir := range folders("mysqld", "/usr/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/opt/mysql*/bin", "/usr/local/opt/mysql*/bin") {
		if server := filepath.Join(dir, "mysqld"); isMySQL(ctx, server) {
			return programs{server: []string{server}}, nil
		}
	}
	for _, root := range unpacked() {
		if p := unpackedIn(root); isMySQL(ctx, p.server...) {
			return p, nil
		}
	}
	if ctx.Err() != nil { // what was looked at did not get to answer
		return programs{}, fmt.Errorf("mysqlserver: looking for MySQL: %w", context.Cause(ctx))
	}
	return programs{}, errNoMySQL
}

// unpacked returns the folders where scripts/setup unpacks MySQL: its user's
// own, and, where that is root, one that the server's user may enter.
func unpacked() []string {
	name := filepath.Join("keyturn", "mysql-"+runtime.GOARCH)
	roots := []string{filepath.Join("/var/cache", name)}
	if cache, err := os.UserCacheDir(); err == nil && os.Geteuid() != 0 {
		roots = append(roots, filepath.Join(cache, name))
	}
	return roots
}

// unpackedIn returns the programs of a folder that Debian packages were unpacked
// in, with all that they need: the C library too.
func unpackedIn(root string) programs {
	usr := filepath.Join(root, "usr")
	var p programs
	if loaders, _ := filepath.Glob(filepath.Join(usr, "lib/*-linux-gnu*/ld-linux*.so.*")); len(loaders) > 0 {
		libs, _ := filepath.Glob(filepath.Join(usr, "lib/*-linux-gnu*"))
		for _, pattern := range []string{"lib/*-linux-gnu*/mysql/private", "lib/mysql/private"} {
			private, _ := filepath.Glob(filepath.Join(usr, pattern))
			libs = append(libs, private...)
		}
		p.server = []string{loaders[0], "--library-path", strings.Join(libs, ":")}
	}
	p.server = append(p.server, filepath.Join(usr, "sbin/mysqld"))
	p.args = []string{"--basedir=" + usr, "--lc-messages-dir=" + filepath.Join(usr, "share/mysql")}
	return p
}

// folders returns the folder of a program in PATH, then those that the patterns
// match, of one pattern the newest first.
func folders(program string, patterns ...string) []string {
	var found []string
	if path, err := exec.LookPath(program); err == nil {
		found = append(found, filepath.Dir(path))
	}
	for _, pattern := range patterns {
		dirs, _ := filepath.Glob(pattern) // the pattern is well formed
		slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
		found = append(found, dirs...)
	}
	return found
}

var versionPattern = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// version returns the first version in a text: 9.6 is older than 15.
func version(text string) float64 {
	v, _ := strconv.ParseFloat(versionPattern.FindString(text), 64) // 0 if there is none
	return v
}

// isMySQL reports whether the command is a MySQL that this package can run:
// MariaDB has a mysqld too.
func isMySQL(ctx context.Context, command ...string) bool {
	out, err := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), "--no-defaults", "--version")...).Output()
	_, ver, _ := strings.Cut(string(out), "Ver ")
	return err == nil && !strings.Contains(ver, "MariaDB") && version(ver) >= 8
}
