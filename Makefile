# The two commands that the README promises, and what contributors run besides.
# Each installs what it needs and the machine lacks: see scripts/setup.

MODULES := . otel cmd/keyturn examples bench
TEST    := go test -race -shuffle=on -count=1 -timeout=20m
LINT    := go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint

.PHONY: help
help:
	@echo "make demo    a pool under load through five rotations, with and without Keyturn"
	@echo "make test    all tests, on real servers, with the race detector"
	@echo "make fuzz    a minute of garbage for smtest's handler; make test has it too"
	@echo "make matrix  every kind of rotation under load, for some minutes; make test has a few of each"
	@echo "make soak    five minutes of load on real servers while everything around them breaks"
	@echo "make check   formatting, vet, lint, tidy modules, links of the public packages, vulnerabilities"
	@echo "make fix     what of that can be mended by a program"

# ARGS='-html=' leaves the page out; ARGS="-svg $PWD/docs/demo.svg" makes the README's picture.
.PHONY: demo
demo:
	@scripts/setup postgres
	@cd examples && go run ./rotation -html '$(CURDIR)/keyturn-demo.html' $(ARGS)

# Real servers, under load, while everything around them breaks: ARGS="-for 1h -seed 7".
# RACE=-race looks for races too, and takes more memory than the run is to report.
.PHONY: soak
soak:
	@scripts/setup postgres mariadb mysql $(if $(RACE),compiler)
	@cd bench && CGO_ENABLED=$(if $(RACE),1,0) go run $(RACE) ./soak $(ARGS)

.PHONY: test
test:
	@scripts/setup postgres pgbouncer mariadb mysql boto3 compiler
	@set -e; for module in $(MODULES); do (cd $$module && CGO_ENABLED=1 $(TEST) ./...); done
	@$(MAKE) --no-print-directory fuzz

# Every kind of rotation under pools of 32, all the rotations: make test has a few.
.PHONY: matrix
matrix:
	@scripts/setup postgres mariadb mysql compiler
	@CGO_ENABLED=1 $(TEST) -run 'TestMatrix$$' ./dbconn/postgres ./dbconn/mysql -matrix

# What a server on a port gets from anybody: no panic, and no 200 for garbage.
.PHONY: fuzz
fuzz:
	@go test ./smtest -run '^$$' -fuzz FuzzServeHTTP -fuzztime 60s

.PHONY: check
check: vet lint tidy links vuln

.PHONY: vet
vet:
	@set -e; for module in $(MODULES); do (cd $$module && go vet ./... && go fix -diff ./...); done

.PHONY: lint
lint:
	@set -e; for module in $(MODULES); do (cd $$module && $(LINT) fmt --diff && $(LINT) run ./...); done

.PHONY: tidy
tidy:
	@set -e; for module in $(MODULES) tools; do (cd $$module && go mod tidy -diff); done

# What a user links with a public package: no testing, and no driver that the
# package is not for.
.PHONY: links
links:
	@scripts/links

# Known vulnerabilities in what the modules reach, if their database answers.
.PHONY: vuln
vuln:
	@scripts/vuln $(MODULES)

.PHONY: fix
fix:
	@set -e; for module in $(MODULES); do (cd $$module && go fix ./... && $(LINT) fmt && go mod tidy); done
