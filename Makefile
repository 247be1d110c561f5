# The one list of commands. Each does its own set-up and ends non-zero if anything failed.
SHELL := /bin/bash -euo pipefail
CARGO ?= cargo
WASM := wasm32-unknown-unknown

.DEFAULT_GOAL := help
.PHONY: help demo test lint wasm npm test-rust test-wasm test-js scenarios lab bench bench-speed bench-npm bench-sockets clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## 300 prompts through a simulated API whose cap moves and storms; needs no key
	@out=$$(mktemp -d "$${TMPDIR:-/tmp}/tidegate-demo.XXXXXX"); \
	  $(CARGO) run --locked --profile demo --features cli --bin tidegate -- \
	    batch examples/prompts.jsonl -o "$$out/answers.jsonl" --simulate

test: lint wasm test-rust test-wasm test-js ## every test, with lint and the wasm builds; sets up what it needs

lint: ## formatting, clippy for each set of features, links in the docs; warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-features --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --lib -- -D warnings
	$(CARGO) clippy --locked --lib -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features sim --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --all-features --lib

wasm: ## build the library for wasm32: the bare core, then the client with the browser's fetch
	toolchain=$$(tests/setup/wasm-target); \
	  $(CARGO) "+$$toolchain" build --locked --lib --target $(WASM) --no-default-features; \
	  $(CARGO) "+$$toolchain" build --locked --lib --target $(WASM) --no-default-features --features client

# Paths of this machine are kept out of the core, so that two machines build the same bytes. What LLVM does to have loops
# add instead of multiply, and to compute on one path what another has computed, is for speed, and 2 % of the package. Four
# kilobytes of stack were seen in use; behind 64, and not the usual megabyte, addresses are a byte shorter.
npm: ## build the npm package into pkg/
	tools=$$(tests/setup/wasm-tools); toolchain=$$(tests/setup/wasm-target); \
	  sysroot=$$(rustc "+$$toolchain" --print sysroot); mkdir -p .cache/npm/wasm-pack; \
	  export RUSTUP_TOOLCHAIN="$$toolchain" WASM_PACK_CACHE="$$PWD/.cache/npm/wasm-pack"; \
	  export RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo --remap-path-prefix=$$sysroot=/rust \
	    -Cllvm-args=-disable-lsr -Cllvm-args=-enable-pre=false -Clink-arg=-zstack-size=65536"; \
	  PATH="$$tools:$$PATH" wasm-pack --log-level error build js/core --target web --mode no-install --profile npm --no-pack \
	    --no-typescript --out-name core --out-dir ../../.cache/npm/core -- --locked; \
	  node js/build.js .cache/npm/core

test-rust: ## the crate's own tests, and those against a real engine
	tests/setup/llama-server $(CARGO) test --locked --all-features

test-wasm: ## the Rust client compiled to wasm32, in Node and in Chromium
	tests/wasm/run

test-js: npm ## the npm package, packed and installed, in every runtime
	tests/js/run

scenarios: ## how close the scheduler comes to knowing a moving cap, as a table; virtual clock, half a minute
	$(CARGO) test --locked --no-default-features --features sim --test scheduler_scenarios -- --nocapture

lab: ## every scenario: Tidegate beside what people use instead, as a table and charts; virtual clock, about two minutes
	$(CARGO) run --locked --profile lab --no-default-features --features sim --example lab
	cp target/lab/moving.svg examples/lab/moving-cap.svg

bench: bench-speed bench-npm bench-sockets ## all of the following

bench-speed: ## cost of the parser, the scheduler and the client, beside their peers; counts instructions with valgrind
	$(CARGO) bench --locked --all-features --bench "*"

bench-npm: npm ## what a client, a call, a chunk and a waiting task cost in the npm package, beside its peers
	tests/setup/npm-packages tests/js/bench
	node tests/js/bench/speed.js
	node tests/js/bench/schedule.js

bench-sockets: npm ## npm packages and Tidegate against a simulated provider on real sockets; about six minutes
	tests/setup/npm-packages tests/js/bench
	$(CARGO) build --locked --profile demo --features cli --bin tidegate
	node tests/js/bench/sockets.js

clean: ## remove everything built
	$(CARGO) clean
	rm -rf pkg .cache js/node_modules tests/js/node_modules tests/js/bench/node_modules
