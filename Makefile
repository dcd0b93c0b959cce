# make demo   run the quickstart notebook, as on a machine that has nothing yet
# make test   everything that has to hold: format, lint, types, tests
# make bench  the measurements of tests/bench
#
# On another Python, in an environment of its own: make test PYTHON=python3.13 VENV=.venv/3.13

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# pip would compile one file after the other, also what packages have of tests, which nobody imports.
INSTALL = $(PIP) install --no-compile
COMPILE = $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
# Else each process of a test compiles all it imports, and each worker all assertions of all tests.
PREPARE = $(BIN)/python -m compileall -q nbcache tests; \
    PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1
# The environment is made anew for what pyproject.toml says now, and only then.
KEY := $(shell cksum < pyproject.toml | tr -d ' ')
WORKERS ?= 2
OUTPUT ?= test-artifacts

.PHONY: demo test lint types check-python bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo-$(KEY)
	@mkdir -p $(OUTPUT)
	@$(BIN)/nbcache run example_notebooks/quickstart.ipynb --output $(OUTPUT)/quickstart.ipynb
	@echo "The notebook with its results: $(OUTPUT)/quickstart.ipynb"
	@echo "Run 'make demo' again: every task comes from the cache."

test: $(VENV)/.test-$(KEY)
	@{ .ci/debian-packages; .ci/npm-packages $(VENV)/node; } & { $(PREPARE); } & \
	    $(MAKE) --no-print-directory lint types; status=$$?; wait; exit $$status
	@echo "== pytest"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -q $(PYTEST_ARGS)

lint: $(VENV)/.test-$(KEY)
	@echo "== ruff format"
	@$(BIN)/ruff format --check .
	@echo "== ruff check"
	@$(BIN)/ruff check .

types: $(VENV)/.test-$(KEY)
	@echo "== mypy"
	@$(BIN)/mypy

bench: $(VENV)/.test-$(KEY)
	@$(BIN)/python -m tests.bench.run_all

$(VENV)/.demo-$(KEY): | check-python $(BIN)/python
	@echo "Installing nbcache and what the quickstart needs into $(VENV)"
	@$(PIP) install --upgrade pip
	@$(INSTALL) -e '.[demo]'
	@$(COMPILE)
	@rm -f $(VENV)/.demo-*
	@touch $@

$(VENV)/.test-$(KEY): | check-python $(BIN)/python
	@echo "Installing nbcache and what its tests need into $(VENV)"
	@$(PIP) install --upgrade pip
	@$(INSTALL) -e '.[test]'
	@$(COMPILE)
	@rm -f $(VENV)/.test-* $(VENV)/.demo-*
	@touch $@ $(VENV)/.demo-$(KEY)

$(BIN)/python: | check-python
	@$(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "$(PYTHON) -m venv does not work; on Debian: apt-get install python3-venv"; exit 1; }

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "nbcache needs Python 3.11 or later; say which with: make PYTHON=python3.12"; exit 1; }

clean:
	rm -rf $(VENV) $(OUTPUT) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
