# make bench: measure this machine with suites/quick.toml.   make test: all checks.   Both install first.
# make slow: real runs whose verdict rests on times, for a quiet machine.   make perf: what benchbox costs.
# make pages: an HTML page beside each committed report.   make pictures: docs/images, in Chromium,
# and what the documents' commands print.
# PYTHON is the interpreter that makes the virtual environment; SUITE and OUT choose what bench runs;
# JOBS is how many processes run the tests.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
SUITE ?= suites/quick.toml
OUT ?= bench-out/$(basename $(notdir $(SUITE)))
INSTALLED := $(VENV)/.installed

PAGES := $(patsubst %/report.json,%/page.html,$(wildcard reports/*/*/report.json))

.PHONY: bench test check tests slow perf pages pictures format clean

bench: $(INSTALLED)
	$(BIN)/benchbox run $(SUITE) --out $(OUT) --resume

test: check tests

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(INSTALLED)
	$(BIN)/pytest tests --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

slow: $(INSTALLED)
	$(BIN)/pytest tests -m slow -s

perf: $(INSTALLED)
	$(BIN)/pytest tests/perf -m perf -s

pages: $(PAGES)

.PHONY: $(PAGES) # a page changes with the code that makes it
$(PAGES): %/page.html: %/report.json $(INSTALLED)
	$(BIN)/benchbox report $< --format html --out $@

pictures: $(INSTALLED)
	PYTHONPATH=. $(BIN)/python docs/pictures.py
	PYTHONPATH=. $(BIN)/python docs/outputs.py

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
