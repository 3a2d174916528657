# Blockcast's commands; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` serves.
LISTEN ?= 127.0.0.1:9985

# Where the bench looks for its Node bridge.
NODE_BRIDGE := target/bench/node

.PHONY: help run test fmt format-check lint unit it bench peers rabbitmq promtool haproxy

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: ## the demo: a broker, Blockcast on 127.0.0.1:9985 (LISTEN=...), a block a second
	@LISTEN='$(LISTEN)' exec setpriv --pdeathsig TERM deploy/demo.sh

test: ## all that CI checks: format, lints, unit and integration tests
	@$(MAKE) --no-print-directory format-check lint unit it

fmt: ## format the sources
	cargo fmt

format-check: ## check the format
	cargo fmt --check

lint: ## clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

unit: ## unit tests, without a broker
	cargo test --locked --lib

it: rabbitmq promtool haproxy ## integration tests, with private brokers
	cargo test --locked --bin blockcast --test it

bench: rabbitmq peers ## the benchmarks: decode to encode, and fan-out beside others (10 minutes)
	cargo bench --locked --bench decode --bench fanout

# What cannot be had is no failure: the bench names it as skipped.
peers: ## install what the benchmarks compare with, as far as it can be had
	@deploy/rabbitmq.sh install-nchan || echo "going on without nchan" >&2
	@mkdir -p $(NODE_BRIDGE) && cp tests/bench/peers/node/*.js* $(NODE_BRIDGE)/
	@cd $(NODE_BRIDGE) && npm ci --silent --no-audit --no-fund || echo "going on without the Node bridge" >&2

rabbitmq: ## install rabbitmq-server if it is missing; its service stays off
	@deploy/rabbitmq.sh install

promtool: ## install Prometheus' promtool if it is missing; its service stays off
	@deploy/rabbitmq.sh install-promtool

haproxy: ## install HAProxy if it is missing; its service stays off
	@deploy/rabbitmq.sh install-haproxy
