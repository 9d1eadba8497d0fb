# Every target sets up .venv by itself when needed: scripts/setup.sh does nothing when it is there and complete.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-rest coverage test-stress test-cluster lint format docs bench clean

BIN := .venv/bin
# Bytecode is kept, whatever the shell says: without it each process of a test run compiles all modules and rewrites
# all asserts again, which takes it 4 to 8 s.
export PYTHONDONTWRITEBYTECODE :=
# tests/conftest.py says which of two processes runs what.
IN_PROCESS := not spark and not horovod and not stress and not cluster
ALL := $(if $(PROCESSES),-n $(PROCESSES))

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

setup: ## Make .venv: pinned packages, Horovod built from source (cached outside the tree)
	@scripts/setup.sh

demo: setup ## Simulate, preprocess, train on 2 ranks, score, evaluate: about 2 minutes, below ./demo; EVENTS=1: of event logs, 4 minutes; FUNNEL=1: of three tasks; TABLE=1: of one table, with a profile
	@scripts/demo$(if $(TABLE),_table,$(if $(EVENTS)$(FUNNEL),_events)).sh

test: setup ## Run all tests but test-stress and test-cluster, PROCESSES=2 in two processes
	@$(BIN)/python -m pytest $(ALL)

test-fast: setup ## Run the tests that start neither Spark nor horovodrun, and take less than half a second: under a minute in all
	@$(BIN)/python -m pytest -n 2 -m "$(IN_PROCESS) and not slow"

coverage: setup ## Run the tests that start neither Spark nor horovodrun, and tell how much of esmm_spark/ they run, file by file; what numba compiles doesn't count as run
	@$(BIN)/python -m pytest -n 2 -m "$(IN_PROCESS)" --cov=esmm_spark --cov-report=term

test-rest: setup ## Run the tests that coverage leaves out
	@$(BIN)/python -m pytest $(ALL) -m "(spark or horovod) and not stress and not cluster"

test-stress: setup ## Two runs on one target, again and again: some minutes
	@$(BIN)/python -m pytest -m stress

test-cluster: setup ## A Spark cluster, several hosts and an object store, as processes of this machine: twenty minutes
	@$(BIN)/python -m pytest -m cluster

lint: setup ## ruff, mypy, and whether docs/config.md and the tables of README.md are up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python scripts/config_reference.py --check
	@$(BIN)/python scripts/readme_tables.py --check

format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: setup ## Write docs/config.md from the config, the tables of README.md from bench/results
	@$(BIN)/python scripts/config_reference.py
	@$(BIN)/python scripts/readme_tables.py

bench: setup ## Measure every stage: impressions per second and peak memory
	@$(BIN)/python -m bench

clean: ## Delete what the demo and the benches wrote
	rm -rf demo demo-events demo-funnel demo-table bench/work
