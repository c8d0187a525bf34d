PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint bench clean

help:
	@echo "make quickstart   install, draw demo shards, profile them, print Table 1"
	@echo "make test         install, lint, run every test, three at a time (WORKERS=3)"
	@echo "make bench        measure throughput as ratios, some twenty minutes on a quiet machine"
	@echo "make clean        remove what quickstart made (demo shards and runs)"

# Installed anew only when what is installed has changed.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing: about 7 GB of packages, some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(VENV)/installed
	$(BIN)/parrotscope quickstart

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Whole files to a worker, the slow ones first: tests of a file share runs that are dear to make.
test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf demo runs
