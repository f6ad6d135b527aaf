# make demo | make test | make faults | make sim | make bench | make docs - each sets up what it needs in .venv, from package registries only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs bench faults sim model mutants screenshots console clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   one generated trading day, with real processes and real trouble (about 25 s)"
	@echo "make test   lint, types, generated pages, all tests"
	@echo "make faults everything we know that can go wrong, with real processes (FAULTS=--help)"
	@echo "make sim    days drawn from seeds, with trouble at every await, every promise checked (SIM=--help)"
	@echo "make model  every state of the order protocol, over the rules that ship (DESIGN=lock-only, MODEL=--help)"
	@echo "make mutants small mistakes in the core: a test must fail for each (MUTANTS=--help)"
	@echo "make bench  speed and size, as ratios to floors of the same run"
	@echo "make docs   write the generated pages again"
	@echo "make screenshots  every screen of the console, desk and phone, dark and light, into docs/screens"
	@echo "make console      build the web console again (it is built by the first installation, and when web/ changed)"

# an installed squareoff with its console, and nothing else
$(VENV)/.installed: pyproject.toml $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dev/*' 2>/dev/null)
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

# a browser for the tests of the console, where the machine has none and lets us install one
$(VENV)/.chromium: $(VENV)/.tools
	@$(BIN)/python tools/chromium.py --install
	@touch $@

test: $(VENV)/.tools $(VENV)/.chromium
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

model: $(VENV)/.tools
	$(BIN)/python -m model.run $(if $(DESIGN),--design $(DESIGN)) $(MODEL)

mutants: $(VENV)/.tools
	$(BIN)/python tools/mutants.py $(MUTANTS)

sim: $(VENV)/.tools
	$(BIN)/python -m squareoff.simulation --kept tests/simulation/kept.txt $(SIM)

screenshots: $(VENV)/.tools $(VENV)/.chromium
	$(BIN)/python tools/screenshots.py $(SCREENS)

console: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
