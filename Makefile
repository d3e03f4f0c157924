# Front door for people and CI; CMake and the scripts in tests/support do the work.

EXAMPLE ?= hello-c
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
DESTDIR ?=
PORT ?= 8080
JOBS ?= $(shell nproc)
ARGS ?=
TARGETS ?=
export FUZZ_SECONDS JOBS

SUPPORT := tests/support
STAGES := quick lint asan tsan coverage fuzz

.DEFAULT_GOAL := build
.PHONY: help deps build run kafka test format bench bench-kafka soak kills chaos docs install clean $(STAGES)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' \
	  | while IFS="$$(printf '\t')" read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

run: ## build what is missing, serve an example on :8080 (EXAMPLE=hello-c PORT=8080)
	@test -d docs/examples/$(EXAMPLE) || { echo "no docs/examples/$(EXAMPLE); there are:" >&2; \
	  ls docs/examples >&2; exit 2; }
	@$(MAKE) --no-print-directory build TARGETS='stator examples'
	@if grep -q 'kind: kafka' docs/examples/$(EXAMPLE)/function.yaml; then \
	  echo "It reads from the Kafka broker at $${KAFKA:-localhost:9092}, which must be there (KAFKA=host:port"; \
	  echo "names another one; \"make kafka\" starts one). Its README says what to send."; \
	else echo "Try:  curl -i http://127.0.0.1:$(PORT)/"; fi
	@exec build/stator run docs/examples/$(EXAMPLE) --port $(PORT) $(ARGS)

kafka: ## a Kafka broker at 127.0.0.1:9092 for the examples, until ^C
	@$(SUPPORT)/kafka_broker.py

build: ## release build: build/stator, its handlers and tests
	@$(SUPPORT)/install-deps.sh build
	@test -f build/build.ninja || cmake --preset release
	@cmake --build --preset release -j $(JOBS) $(TARGETS:%=-t %)

test: ## everything CI does: lint, all tests, sanitizers, fuzzing, coverage
	@$(SUPPORT)/run-tests.sh all

quick: ## unit tests and one request, in less than a minute
lint: ## format, include rule, headers alone, shellcheck, clang-tidy
asan: ## all tests under AddressSanitizer, LeakSanitizer and UBSan
tsan: ## unit and integration tests under ThreadSanitizer
coverage: ## all tests with gcov: line coverage by folder and its floors
fuzz: ## every fuzz target, FUZZ_SECONDS (60) in all
$(STAGES):
	@$(SUPPORT)/run-tests.sh $@

format: ## rewrite our C files as clang-format has them
	@$(SUPPORT)/lint.sh rewrite

docs: build ## write the reference of docs/configuration.md anew
	@$(SUPPORT)/config_reference.py build/stator

bench: build ## measure beside reference servers (ARGS='--case http-get --rounds 3')
	@tests/bench/setup.sh
	@tests/bench/bench.py $(or $(ARGS),--case 'http-*' 'python-*')

bench-kafka: build ## the same with a real Kafka broker, which Maven fetches
	@tests/bench/bench.py $(or $(ARGS),--case 'kafka-*')

soak: build ## ten minutes of half load on a Python function, memory must stay flat (ARGS='--seconds 60')
	@tests/bench/soak.py $(ARGS)

kills: build ## kills Python workers under load 200 times, none may stay away (ARGS='--kills 50')
	@tests/bench/kills.py $(ARGS)

chaos: build ## 200 random faults while a function reads Kafka, nothing may be lost (ARGS='--seed 2 --worker python')
	@$(SUPPORT)/install-deps.sh test && $(SUPPORT)/venv.sh && $(SUPPORT)/kafka.sh 3.9.1 && $(SUPPORT)/toxiproxy.sh
	@build/venv/bin/python tests/bench/chaos.py $(ARGS)

install: build ## into $(DESTDIR)$(PREFIX)
	@DESTDIR="$(DESTDIR)" cmake --install build --prefix "$(PREFIX)"

deps: ## install the Debian packages that build and tests need
	@$(SUPPORT)/install-deps.sh build test

clean: ## remove build/
	@rm -rf build
