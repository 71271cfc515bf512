# Relay. `make run` needs Python 3.11 and nothing else; `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
REPORT ?= bench/results/proof.txt
FUZZ_REPORT ?= docs/proof/fuzz-0.1.0.txt
DRILL_REPORT ?= docs/proof/drill-0.1.0.txt
SYSTEM_TESTS = $(BIN)/python -m pytest -q --collect-only -m system 2>/dev/null | grep -c '::'

# Fuzzing has a target and a report of its own.
PROVED = $(shell grep -rlE 'tests.scale import' tests --include=test_*.py | grep -v test_fuzz | sort)

.PHONY: run test check proof fuzz drill bench demo fmt setup setup-dev lock help

run: setup  ## start everything on this machine (Ctrl-C stops it)
	@$(BIN)/relay up --end-with-parent

test: setup-dev  ## the tests that need only Python and its packages
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not system"
	@echo "Left out: $$($(SYSTEM_TESTS)) tests marked 'system' (make check runs them; .ci/run installs what they need)."

check: setup-dev  ## what CI runs: lint, format, types, every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q -n 3 --dist worksteal

proof: setup-dev  ## the long lists at full size, and the benchmarks of the core; REPORT names the file of figures
	@rm -f $(REPORT)
	RELAY_TESTS_FULL=1 RELAY_TESTS_REPORT=$(REPORT) $(BIN)/python -m pytest -q -n 0 $(PROVED)
	$(BIN)/python -m bench core | tee -a $(REPORT)

fuzz: setup-dev  ## 100 000 odd requests to the API; FUZZ_REPORT names the file of figures
	@rm -f $(FUZZ_REPORT)
	RELAY_TESTS_FULL=1 RELAY_TESTS_REPORT=$(FUZZ_REPORT) $(BIN)/python -m pytest -q -n 2 tests/api/test_fuzz.py

drill: setup-dev  ## thirty minutes of faults, one after the other; DRILL_REPORT names the file of figures
	@$(BIN)/relay drill --minutes 30 --json $(DRILL_REPORT:.txt=.json) | tee $(DRILL_REPORT)

bench: setup-dev  ## measure (ARGS="single fanout10 latency-idle", or "core")
	@$(BIN)/python -m bench $(ARGS)

demo: setup  ## fill a running system with four endpoints and some traffic
	@$(BIN)/relay demo

fmt: setup-dev  ## format, and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

setup:  ## .venv with what Relay needs; a second time it does nothing and needs no network
	@$(PYTHON) scripts/setup.py run

setup-dev:  ## .venv with the tools and tests too
	@$(PYTHON) scripts/setup.py dev

lock: setup-dev  ## resolve the dependencies again; no host is written into the locks
	@$(LOCK) --all-extras -o requirements-dev.lock
	@$(LOCK) --extra embedded --extra checkout --constraint requirements-dev.lock -o requirements.lock
	@$(LOCK) --constraint requirements-dev.lock -o deploy/requirements.lock

LOCK = UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12
