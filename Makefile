# make bench: measure this machine with suites/quick.toml.   make test: all checks.   Both install first.
# PYTHON is the interpreter that makes the virtual environment; SUITE and OUT choose what bench runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUITE ?= suites/quick.toml
OUT ?= bench-out/$(basename $(notdir $(SUITE)))
INSTALLED := $(VENV)/.installed

.PHONY: bench test check tests perf format clean

bench: $(INSTALLED)
	$(BIN)/benchbox run $(SUITE) --out $(OUT) --resume

test: check tests

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(INSTALLED)
	$(BIN)/pytest tests

perf: $(INSTALLED)
	$(BIN)/pytest tests/perf -m perf -s

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) bench-out build dist
