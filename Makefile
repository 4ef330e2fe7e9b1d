# `make help` lists the targets. Each can be run again: what is done is not done twice.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Compiled modules are kept: a test run starts hundreds of processes, and rewrites the asserts of its own modules.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
PIPELINE := realtime-data
SEEDS := 50
SOURCES := headgate spark producers serving monitoring dags bench tools tests

.PHONY: help setup up down check lint format types unit e2e test torture bench bench-peers lock schema docs jars clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## everything a fresh clone needs: packages, .venv, jars
	@tools/setup.sh

up: setup ## set up, start the embedded platform, run the pipelines
	@$(BIN)/headgate up

down: ## stop everything that `make up` started; what is desired stays desired
	@if [ -x $(BIN)/headgate ]; then $(BIN)/headgate down; else echo "nothing to stop: not set up"; fi

check: setup lint types unit ## ruff, mypy and the unit tests

lint: ## ruff check and format --check
	@$(BIN)/ruff check $(wildcard $(SOURCES))
	@$(BIN)/ruff format --check $(wildcard $(SOURCES))

format: ## let ruff rewrite the sources
	@$(BIN)/ruff check --fix-only $(wildcard $(SOURCES))
	@$(BIN)/ruff format $(wildcard $(SOURCES))

types: ## mypy --strict
	@$(BIN)/mypy

unit: ## the tests that need no service, and no other program for long
	@$(BIN)/pytest -q -n 3 tests/unit

e2e: ## the tests that run real services, and programs of their own
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=40 --durations-min=10 tests/e2e

test: ## set up, then all checks and all tests
	@tools/setup.sh --tests
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory e2e

torture: setup ## kill a private copy of PIPELINE (realtime-data) by SEEDS (50) seeds, five faults each
	@for seed in $$(seq 1 $(SEEDS)); do $(BIN)/headgate torture $(PIPELINE) --seed $$seed --kills 5 || exit 1; done

bench: setup ## the benchmark against the embedded broker; results in bench/RESULTS.md
	@$(BIN)/python -m bench

bench-peers: ## the benchmark against PyFlink, in an environment of its own; results in bench/RESULTS.md
	@tools/setup.sh --peers
	@$(BIN)/python -m bench peers

COMPILE := uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
  --no-annotate --quiet
lock: ## regenerate the locks of the packages (UPGRADE=1: newest allowed versions)
	@$(COMPILE) pyproject.toml --group dev --python-version 3.11 $(if $(UPGRADE),--upgrade) \
	  --output-file requirements.lock
	@$(COMPILE) bench/peers/requirements.in --python-version 3.11 $(if $(UPGRADE),--upgrade) \
	  --output-file bench/peers/requirements.lock
	@$(COMPILE) tests/s3.in --python-version 3.11 $(if $(UPGRADE),--upgrade) --output-file tests/s3.lock
	@! grep -nE '://|^-' requirements.lock bench/peers/requirements.lock tests/s3.lock || \
	  { echo "error: a lock names an address" >&2; exit 1; }

schema: setup ## regenerate the contracts' JSON Schema
	@$(BIN)/headgate schema > headgate/contract/.schema.json && mv headgate/contract/.schema.json headgate/contract/schema.json

docs: setup ## regenerate the tables of docs/guides
	@$(BIN)/python tools/contract_reference.py --write

jars: setup ## fetch and verify the jars of headgate/local/locks
	@$(BIN)/python -m headgate.local.jars fetch

clean: ## remove caches and the leftovers of tests; keeps .venv, jars and var
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist var/test-*
	@find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
