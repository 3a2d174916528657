# Blockcast's commands; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` serves.
LISTEN ?= 127.0.0.1:9985

# Where `make deny` keeps cargo-deny, by its version. Another version may know other rules.
DENY_VERSION := 0.20.2
DENY := target/tools/cargo-deny-$(DENY_VERSION)

# Where the bench looks for its Node bridge.
NODE_BRIDGE := target/bench/node

# How many integration tests run at a time: they wait more than they compute.
IT_THREADS ?= $(shell echo $$(($$(nproc) + 1)))

# Whose RabbitMQ `make test-brokers` tests on, beside this machine's: the Debian releases after it.
BROKER_SUITES ?= trixie forky

# How long `make fuzz` has for each target, and what builds them: coverage as libFuzzer wants it, which
# stable has; no sanitizer, since there is no unsafe code to watch.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := decode skip unpack query inbound proxy_header configuration amqp
FUZZ_DIRECTORY := target/fuzz
FUZZ_PLATFORM = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS := --cfg fuzzing -C passes=sancov-module -C codegen-units=1 \
	-C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
	-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares

# How long `make soak` has for its faults, and how far its simulation goes before.
SOAK_SECONDS ?= 1800
SOAK_STEPS ?= 20000000

.PHONY: help run test test-brokers test-nodes test-all fmt format-check lint deny unit it bench fuzz soak \
	peers rabbitmq promtool haproxy faketime mmdebstrap

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: ## the demo: a broker, Blockcast on 127.0.0.1:9985 (LISTEN=...), a block a second
	@LISTEN='$(LISTEN)' exec setpriv --pdeathsig TERM deploy/demo.sh

test: ## format, lints, unit and integration tests
	@$(MAKE) --no-print-directory format-check lint unit it

test-brokers: promtool haproxy faketime mmdebstrap ## the integration tests on newer RabbitMQ (BROKER_SUITES=...)
	@RUST_TEST_THREADS=$(IT_THREADS) tests/brokers.sh $(BROKER_SUITES)

test-nodes: rabbitmq ## follow the web applications of BigchainDB and Planetmint
	@tests/nodes.sh

test-all: ## everything that CI checks: test, test-brokers, test-nodes
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-brokers
	@$(MAKE) --no-print-directory test-nodes

fmt: ## format the sources
	cargo fmt

format-check: ## check the format
	cargo fmt --check

lint: ## clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings
	RUSTFLAGS='--cfg fuzzing' cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml \
		--target-dir $(FUZZ_DIRECTORY) -- -D warnings

# Building it takes minutes, so it is no part of `make test`. What cannot be had is no failure.
deny: ## check licences, sources and duplicate versions of the dependencies
	@[ -x $(DENY)/bin/cargo-deny ] || \
		cargo install --locked --quiet --root $(DENY) --version $(DENY_VERSION) cargo-deny || true
	@if [ -x $(DENY)/bin/cargo-deny ]; then \
		$(DENY)/bin/cargo-deny --locked check -D unmatched-skip -D unnecessary-skip licenses sources bans; \
	else \
		echo "skipped: deny: cargo-deny could not be installed; what cargo said stands above"; \
	fi

unit: ## unit tests and checks of the checkout, without a broker; and the client without the service
	cargo test --locked --lib --test tidy
	cargo test --locked --doc
	@tests/client.sh

it: rabbitmq promtool haproxy faketime ## integration tests, with private brokers
	RUST_TEST_THREADS=$(IT_THREADS) cargo test --locked --bin blockcast --test it

bench: rabbitmq peers ## the benchmarks: decode to encode, and fan-out beside others (12 minutes)
	cargo bench --locked --bench decode --bench fanout

fuzz: ## throw bytes at what reads untrusted ones, a minute each (FUZZ_SECONDS=...)
	@RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml \
		--target $(FUZZ_PLATFORM) --target-dir $(FUZZ_DIRECTORY)
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FUZZ_DIRECTORY)/corpus/$$target $(FUZZ_DIRECTORY)/found/$$target; \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		$(FUZZ_DIRECTORY)/$(FUZZ_PLATFORM)/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
			-rss_limit_mb=2048 -verbosity=0 -print_funcs=0 -print_final_stats=1 \
			-artifact_prefix=$(FUZZ_DIRECTORY)/found/$$target/ -dict=tests/fuzz/seeds/$$target.dict \
			$(FUZZ_DIRECTORY)/corpus/$$target tests/fuzz/seeds/$$target; \
	done

soak: rabbitmq ## a long simulation, then load and faults at random for half an hour (SOAK_SECONDS=...)
	BLOCKCAST_SIMULATION_STEPS=$(SOAK_STEPS) cargo test --locked --release --lib -- simulation --nocapture
	BLOCKCAST_SOAK_SECONDS=$(SOAK_SECONDS) cargo test --locked --bin blockcast --test it -- soak:: --nocapture

# What cannot be had is no failure: the bench names it as skipped.
peers: ## install what the benchmarks compare with, as far as it can be had
	@deploy/rabbitmq.sh install-nchan || echo "going on without nchan" >&2
	@mkdir -p $(NODE_BRIDGE) && cp tests/bench/peers/node/*.js* $(NODE_BRIDGE)/
	@cd $(NODE_BRIDGE) && npm ci --silent --no-audit --no-fund || echo "going on without the Node bridge" >&2

# What cannot be had is no failure: the tests name what they skip.
mmdebstrap: ## install mmdebstrap if it is missing
	@deploy/rabbitmq.sh install-mmdebstrap || echo "going on without mmdebstrap" >&2

rabbitmq: ## install rabbitmq-server if it is missing; its service stays off
	@deploy/rabbitmq.sh install

promtool: ## install Prometheus' promtool if it is missing; its service stays off
	@deploy/rabbitmq.sh install-promtool

haproxy: ## install HAProxy if it is missing; its service stays off
	@deploy/rabbitmq.sh install-haproxy

faketime: ## install libfaketime if it is missing
	@deploy/rabbitmq.sh install-faketime
