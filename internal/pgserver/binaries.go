package pgserver

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
)

// binEnv names a folder with initdb and postgres.
const binEnv = "KEYTURN_POSTGRES_BIN"

var errNoBinaries = errors.New("pgserver: no PostgreSQL server found (initdb and postgres, in one folder): " +
	"install it (Debian, Ubuntu: apt install postgresql; Homebrew: brew install postgresql@17), " +
	"or set " + binEnv + " to the folder of the binaries")

// findBinaries returns the folder of initdb and postgres.
func findBinaries() (string, error) {
	if dir := os.Getenv(binEnv); dir != "" {
		if !hasBinaries(dir) {
			return "", errors.New("pgserver: " + binEnv + " is " + strconv.Quote(dir) +
				", where initdb and postgres are not: set it to the folder of the binaries, or unset it")
		}
		return dir, nil
	}
	if initdb, err := exec.LookPath("initdb"); err == nil && hasBinaries(filepath.Dir(initdb)) {
		return filepath.Dir(initdb), nil
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		dirs, _ := filepath.Glob(pattern) // the pattern is well formed
		slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
		for _, dir := range dirs {
			if hasBinaries(dir) {
				return dir, nil
			}
		}
	}
	return "", errNoBinaries
}

func hasBinaries(dir string) bool {
	suffix := ""
	if runtime.GOOS == "windows" {
		suffix = ".exe"
	}
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, name+suffix)); err != nil {
			return false
		}
	}
	return true
}

var versionPattern = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// version returns the version in a folder's name: 9.6 is older than 15.
func version(dir string) float64 {
	v, _ := strconv.ParseFloat(versionPattern.FindString(dir), 64) // 0 if there is none
	return v
}
