# make demo | make test | make faults | make mutants | make bench | make docs - each sets up what it needs in .venv, from package registries only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs bench faults mutants clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   one generated trading day, with real processes and real trouble (about 25 s)"
	@echo "make test   lint, types, generated pages, all tests"
	@echo "make faults everything we know that can go wrong, with real processes (FAULTS=--help)"
	@echo "make mutants break the core on purpose, one small change at a time: does a test notice? (MUTANTS=--help)"
	@echo "make bench  speed and size, as ratios to floors of the same run"
	@echo "make docs   write the generated pages again"

# an installed squareoff, and nothing else
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "squareoff needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/squareoff demo $(DEMO)

test: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

docs: $(VENV)/.tools
	$(BIN)/python tools/generate_docs.py

bench: $(VENV)/.bench
	$(BIN)/python -m bench.run $(BENCH)

faults: $(VENV)/.tools
	$(BIN)/python -m faults.run $(FAULTS)

mutants: $(VENV)/.tools
	$(BIN)/python tools/mutants.py $(MUTANTS)

clean:
	rm -rf $(VENV) .mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
