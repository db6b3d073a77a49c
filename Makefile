# Berth in two commands: `make up` starts it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# The newest Python on the machine that is new enough; any other: make PYTHON=/path/to/python up
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
ENVIRONMENT := $(PYTHON) deploy/environment.py

.PHONY: help up environment test-environment test test-unit test-long check format image lab lock bench-core bench-control bench-launch bench-traces bench-explain clean test-core cluster chaos

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

up: environment lab  ## start the whole portal in the foreground (ARGS=--keep leaves Docker workspaces running)
	@exec $(BIN)/python manage.py up $(ARGS)

cluster: test-environment  ## start a whole cluster on this machine, as root: 3 nodes with a Docker Engine each; Ctrl-C takes it away
	@exec $(BIN)/python -m tests.cluster $(ARGS)

chaos: test-environment  ## 1,000 short jobs on a cluster whose parts are killed and cut off, and a report (ARGS="--jobs N --seed N")
	@exec $(BIN)/python -m tests.cluster.chaos $(ARGS)

environment:
	@$(ENVIRONMENT) .venv deploy/requirements.lock

lab:  ## make .venv-lab, the JupyterLab that the process driver starts
	@$(ENVIRONMENT) .venv-lab deploy/requirements-lab.lock

test-environment: lab
	@$(ENVIRONMENT) .venv deploy/requirements-dev.lock

test: test-environment  ## run all tests; installs the servers they need from Debian's packages where it may
	@exec $(BIN)/python tests/run.py $(ARGS)

test-unit: test-environment  ## run the quick tests: no database, no server
	@exec $(BIN)/python -m pytest -m "not long" tests/unit tests/properties $(ARGS)

test-core: test-environment  ## run the scheduler core's tests with Django out of reach
	@PYTHONPATH=. exec $(BIN)/python -m pytest -q -c /dev/null --rootdir . --noconftest --import-mode=importlib \
		-p no:django -p no:cacheprovider -p tests.without_django -m "not long" tests/unit/core tests/unit/test_plan.py \
		tests/unit/test_units.py tests/properties $(ARGS)

test-long: test-environment  ## run the tests that take more than a minute each
	@exec $(BIN)/python tests/run.py --long $(ARGS)

check: test-environment  ## ruff, mypy, import-linter, missing migrations, templates
	@exec $(BIN)/python deploy/check.py

format: test-environment  ## let ruff sort imports and format
	@$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format .

image: environment  ## build the Docker image berth/lab (JupyterLab) on this machine, without a registry
	@exec $(BIN)/python deploy/image/build.py $(ARGS)

bench-core: test-environment  ## measure one scheduling plan on large queues, cold and warm (ARGS="--growth FILE.svg", "--slurm SCRIPT")
	@exec $(BIN)/python -m tests.benchmarks.core $(ARGS)

bench-control: test-environment  ## measure scheduling loop and submissions on PostgreSQL and Redis (ARGS="--only gang")
	@exec $(BIN)/python -m tests.benchmarks.control $(ARGS)

bench-explain: test-environment  ## measure finding and proving what would start one waiting job now
	@exec $(BIN)/python -m tests.benchmarks.explain $(ARGS)

bench-launch: test-environment  ## measure click to first executed cell, side by side with JupyterHub
	@exec $(BIN)/python -m tests.benchmarks.launch $(ARGS)

bench-traces: test-environment  ## replay public traces beside published results (TRACES=folder with the traces)
	@exec $(BIN)/python -m tests.benchmarks.traces $(if $(TRACES),--traces "$(TRACES)") $(ARGS)

lock: test-environment  ## compile the lock files anew from deploy/*.in
	@exec deploy/lock.sh

clean:  ## remove what can be made again (environments, caches); data in ./var stays
	rm -rf .venv .venv-lab .venv-bench .venv-lock .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
