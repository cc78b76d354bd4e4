# make run   installs Rostok into .venv and grows the demo swarm in runs/demo
# make test  installs it for development into the same .venv and runs all tests
# make bench-engine  tokens/s beside the one-at-a-time call
# make lint  ruff and mypy;  make check  lint, then test;  make clean  removes .venv and what tools left behind

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAGES := agents seeds generator swarm ensemble
SOURCES := pyproject.toml $(shell find src $(STAGES) -type f ! -name '*.pyc')

.PHONY: run test lint check bench-engine clean
.DELETE_ON_ERROR:

run: .venv/.installed
	$(BIN)/rostok night runs/demo --profile demo

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

bench-engine: .venv/.installed-dev
	$(BIN)/python bench/engine.py

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src $(STAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 2; }
	$(PYTHON) -m venv .venv

# The stamps are written last, so that an installation that was broken off is done again. An editable installation
# follows the sources by itself; the plain one is brought up to date when they change.
.venv/.installed: $(SOURCES) | $(BIN)/python
	if [ -e .venv/.installed-dev ]; then $(MAKE) .venv/.installed-dev; \
	else $(BIN)/python -m pip install --disable-pip-version-check .; fi
	touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	touch $@
