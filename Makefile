# The verbs of the project. `make help` tells what each does.
SHELL := /bin/bash
# The first that is new enough and can make an environment; the lock was compiled for 3.11, and serves later ones. A system's
# own comes first: it is built with profile-guided optimisation, and takes an eighth less CPU than one compiled without.
IS_FIT := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(firstword $(foreach name,/usr/bin/python3 python3 python3.11 python3.12 python3.13,$(shell $(name) -c '$(IS_FIT)' 2> /dev/null && echo $(name)))),python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-fast check format bench soak fuzz lock clean parts

help: ## Say what each verb does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make .venv from requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 or newer is missing: install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Headrace needs 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2; exit 3; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What the first start would otherwise wait for: the jars of broker and charts, and the broker's classes laid out for the JVM.
$(VENV)/.prepared: $(VENV)/.installed ops/stack/pom.xml ops/stack/charts.xml
	@$(BIN)/python -m ops.stack.prepare
	@touch $@

run: install $(VENV)/.prepared ## Start everything and let a real SDK run an experiment: make run ARGS="--events 5000 --exit"
	@$(BIN)/headrace demo $(ARGS)

# Tests on real parts wait more than they compute, so two files at a time take two thirds of the time.
test: install parts $(VENV)/.prepared ## Run every test there is, on real parts
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

test-fast: install $(VENV)/.prepared ## Run the tests of the daily loop (two minutes)
	$(BIN)/pytest -m "not slow" $(ARGS)

check: install ## Lint, formatting, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## Put the source into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install $(VENV)/.prepared ## Measure CPU an event, throughput and latency through the whole stack
	$(BIN)/python -m bench $(ARGS)

MINUTES ?= 20
soak: install $(VENV)/.prepared ## Kill everything again and again, and write docs/soak.md: make soak MINUTES=20 SEED=7; FULL=1 takes hours
	@PYTHONPATH=tests $(BIN)/python -m crash.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(FULL),--full)

fuzz: install $(VENV)/.prepared ## Send 10,000 made-up bodies to a whole stack and account for each event: make fuzz SEED=7
	$(BIN)/pytest --hypothesis-profile=soak $(if $(SEED),--hypothesis-seed=$(SEED)) --timeout=3600 \
	    tests/integration/test_hostile_input.py -k whatever_a_body_is $(ARGS)

lock: install ## Compile requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --all-extras --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 pyproject.toml --output-file requirements.lock

parts:
	@tests/install-parts

clean: ## Remove the virtual environment and the demo's data
	rm -rf $(VENV) .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis
