# Two commands do all: `make demo` shows the product, `make test` proves it.
SHELL := /bin/bash
CARGO ?= cargo
LOCKED := --locked

.PHONY: help demo test check check-all engine-check bench gpu-check fmt prerequisites build journeys sheets

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: prerequisites build ## Build, then watch the main job happen on real processes (STAY=1 leaves it running)
	./target/debug/wharfage demo $(if $(STAY),--stay)

test: check sheets journeys ## Everything a change must pass
	@echo "make test: everything passed"

check: prerequisites units ## The fast part of `make test`: format, lints, unit and property tests, tidy
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	$(CARGO) build $(LOCKED) --workspace
	$(CARGO) test $(LOCKED) --workspace --exclude wharfage-tests
	$(CARGO) test $(LOCKED) -p wharfage-tests --test tidy -- --nocapture

sheets: build ## The golden drill sheets through the command line, as a user runs them
	@set -e; for sheet in sim/sheets/*.sheet; do \
		echo "sheet $$sheet"; ./target/debug/wharfage simulate $$sheet > /dev/null; done

journeys: build browser units ## Stories with real processes
	$(CARGO) test $(LOCKED) -p wharfage-tests -- --test-threads=1

check-all: test ## Longer runs: more random worlds, more kills, every property ten times as often
	SEEDS=10000 PROPTEST_CASES=2560 KILLS=500 $(CARGO) test $(LOCKED) --workspace --exclude wharfage-tests

engine-check: prerequisites ## A real engine (llama.cpp on the CPU) through the agent; skips where it cannot be built
	CARGO=$(CARGO) tests/engine-check.sh

bench: prerequisites ## Measure and write docs/benchmarks.md (WHARFAGE_DATA names the folder of traces)
	docs/bench.sh

gpu-check: prerequisites ## On a host with NVIDIA GPUs: fields against nvidia-smi, memory taken and released, cost
	$(CARGO) build $(LOCKED) --release -p wharfage-agent --bin wharfage-agent --examples
	target/release/examples/gpu_check --figures docs/gpu-figures.txt
	docs/gpu-section.sh docs/benchmarks.md

fmt: ## Format
	$(CARGO) fmt --all

build: prerequisites
	$(CARGO) build $(LOCKED) --workspace

prerequisites:
	@tests/prerequisites.sh

.PHONY: browser units
units:
	@tests/prerequisites.sh units

browser:
	@tests/prerequisites.sh browser
