# Blockcast's commands; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` serves.
LISTEN ?= 127.0.0.1:9985

.PHONY: help run test fmt format-check lint unit it bench rabbitmq promtool haproxy

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

bench: rabbitmq ## the benchmarks: decode to encode, and fan-out beside a plain write() loop
	cargo bench --locked --bench decode --bench fanout

rabbitmq: ## install rabbitmq-server if it is missing; its service stays off
	@deploy/rabbitmq.sh install

promtool: ## install Prometheus' promtool if it is missing; its service stays off
	@deploy/rabbitmq.sh install-promtool

haproxy: ## install HAProxy if it is missing; its service stays off
	@deploy/rabbitmq.sh install-haproxy
