# The verbs of the project. `make help` tells what each does.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-fast check format bench lock clean parts

help: ## Say what each verb does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make .venv from requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 or newer is missing: install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Headrace needs 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Start everything and let a real SDK run an experiment: make run ARGS="--events 5000 --exit"
	@$(BIN)/headrace demo $(ARGS)

test: install parts ## Run every test there is, on real parts
	$(BIN)/pytest $(ARGS)

test-fast: install ## Run the tests of the daily loop (two minutes)
	$(BIN)/pytest -m "not slow" $(ARGS)

check: install ## Lint, formatting, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## Put the source into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Measure CPU an event, throughput and latency through the whole stack
	$(BIN)/python -m bench $(ARGS)

lock: install ## Compile requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --all-extras --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 pyproject.toml --output-file requirements.lock

parts:
	@tests/install-parts

clean: ## Remove the virtual environment and the demo's data
	rm -rf $(VENV) .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis
