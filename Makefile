# What one does here; `make` alone lists it. Cargo does the work, and scripts/ has more.

help: ## list what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

build: ## the release executable: target/release/runitbox
	cargo build --release

test: ## all tests that can run here, with the debug executable
	cargo test

lint: ## format, lints, other platforms
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	scripts/check-platforms

demo: ## some services for a few seconds, in a temporary directory
	scripts/demo

bench: ## svlogd's throughput beside Debian's
	scripts/bench-log

gate: ## everything that a change has to pass; for root on a Debian 12 that may be changed
	.ci/run

.PHONY: help build test lint demo bench gate
