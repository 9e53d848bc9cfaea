# Blocktree. `make` alone lists what there is to make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
ARGS     ?=
FUZZTIME ?= 10s
FUZZ_PACKAGES ?= ./...
FUZZ_TARGETS ?= ^Fuzz
# How long it may take to make an input shorter that is new: 60 s by default, of sessions most of the time that there is.
FUZZ_SHORTEN ?= 1s
MINUTES  ?= 30
SEEDS    ?=
SEED     ?=

# A checkout that git refuses to read (another owner) is built without its commit's name.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
BUILD     = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS)
THRASH   := $(wildcard test/thrash/run)
GOTEST    = $(GO) run ./internal/lint/gotest

# What `make test` also runs under the race detector, with -short; `make race` runs everything. Not cluster/stripe, whose machines have no goroutines.
RACE_PACKAGES = ./crypto/... ./internal/erasure ./internal/bttp/... ./internal/file/... ./cluster ./cluster/meta ./cluster/store ./fs/... ./blockdev/...

# On one processor for each program of tests, of which as many run at a time as there are processors: the timers of a bubble of testing/synctest share one state of the race detector, which two threads then use at once, and the detector
# ends the program, or makes it stand still (Go 1.26; go.dev/issue/78156). What it finds, it finds by what happens before what, not by what runs at the same time.
RACE_TEST = $(GO) test -race -cpu 1 -shuffle=on

.PHONY: help build demo test packages lint unit race race-short sim fuzz bench scale shown writelog vm-test

help: ## this list
	@awk -F ':[^#]*## ' -v thrash='$(THRASH)' '/^[a-z-]+:.*## / && ($$1 != "thrash" || thrash != "") \
		{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the two static programs, bin/btnode and bin/btnbd
	$(BUILD) -o bin/ ./cmd/btnode ./cmd/btnbd

demo: build ## three nodes and a block device in one process; ARGS="--dir D --nodes 3 --code 2+1 --size 1GiB"
	bin/btnbd demo $(ARGS)

test: packages lint unit race-short ## everything a change must pass, in at most 20 minutes; installs what it needs as root
	@echo "all tests passed"

packages:
	@test/install-packages race tools

lint: ## vet, layers, style
	$(GO) vet ./...
	$(GO) test -count=1 ./internal/lint/...

# Lint has vetted already. What takes longest comes first. The tests of internal/node wait far more than they work, so three of them run at a time, and another package beside them.
unit:
	$(GOTEST) -vet=off -parallel 3 -shuffle=on -timeout 15m ./internal/node ./internal/fastrung ./internal/sim ./...

race: ## every test under the race detector (needs gcc)
	$(RACE_TEST) -timeout 60m ./...

race-short:
	@if ! command -v gcc >/dev/null; then \
		grep -qx 'needs gcc' internal/lint/skips.txt; \
		echo "skipped: go test -race needs gcc"; \
	else \
		$(RACE_TEST) -short -vet=off -timeout 15m $(RACE_PACKAGES); \
	fi

sim: ## the seeded simulator; SEEDS=200000 for a sweep, SEED=42 for one
	SEEDS=$(SEEDS) SEED=$(SEED) $(GO) test -count=1 -timeout 0 -v ./internal/sim

fuzz: ## every fuzz target for FUZZTIME=10s each
	@targets=$$($(GO) test -list '$(FUZZ_TARGETS)' $(FUZZ_PACKAGES) | awk '/^Fuzz/ {t[n++] = $$1} /^ok/ {for (i = 0; i < n; i++) print $$2, t[i]; n = 0}'); \
	test -n "$$targets"; failed=; \
	while read -r package target; do \
		echo "== $$package $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime $(FUZZ_SHORTEN) $$package || failed="$$failed $$target"; \
	done <<<"$$targets"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

bench: packages build ## measures everything side by side and writes docs/BENCHMARKS.md
	test/bench/run

scale: ## a simulated domain of a million directories; writes the numbers of docs/ROUTES.md and docs/routes.svg
	$(GO) run ./test/scale

shown: packages build ## every script of test/shown, in order; fails if one fails
	@failed=; \
	for script in test/shown/[0-9]*; do \
		echo "== $$script"; \
		$$script || failed="$$failed $$script"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

writelog: build ## real file systems on a device that is recorded: the image of every flush is clean
	test/writelog/run

vm-test: build ## the real kernel's nbd-client in a virtual machine
	test/vm/run

ifneq ($(THRASH),)
.PHONY: thrash
thrash: build ## real processes under load and faults for MINUTES=30
	test/thrash/run $(MINUTES)
endif
