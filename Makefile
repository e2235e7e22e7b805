# One verb a target; each does its own set-up in .venv. Works with GNU make 3.81 (macOS) and up.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
TORCH := $(shell grep '^torch==' requirements.lock)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: install distributed lint test e2e compose-test bench serve

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Appshelf needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "installing $(TORCH): the CPU build if its index answers, else the default index's"
	$(PIP) install --retries 0 --timeout 15 --index-url $(CPU_INDEX) $(TORCH) \
		|| $(PIP) install --retries 1 --timeout 60 $(TORCH)
	$(PIP) install --retries 1 --timeout 60 -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What training on several processes needs beside the rest: the extra `distributed`, see its lock.
distributed: .venv/distributed

.venv/distributed: .venv/installed requirements-distributed.lock
	$(PIP) install --retries 1 --timeout 60 --no-deps -r requirements-distributed.lock
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict examples

# As many at a time as there are processors, and four at most; a file's tests mostly stay together, so that what they share
# is made once.
test: install
	$(BIN)/python -m pytest -m "not e2e and not compose" --numprocesses logical --maxprocesses 4 --dist worksteal

e2e: install
	$(BIN)/python -m pytest -m e2e

# Builds the image and runs docker-compose.yml for real, on a project and a port of its own; needs an engine.
compose-test: install
	$(BIN)/python -m pytest -m compose

bench: install
	$(BIN)/python -m bench

serve: install
	$(BIN)/appshelf demo
