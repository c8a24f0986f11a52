PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup quickstart mutants test test-slow test-all lint types docs bench bench-serving notebooks wheels lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## Make .venv with the locked versions

$(VENV)/.installed: requirements.lock pyproject.toml serving/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "arsenal needs Python 3.11 or newer")'
	@test ! -e $(VENV)/pyvenv.cfg -o -e $(VENV)/.made -o -e $(VENV)/.installed \
		|| { echo "$(VENV) is an environment that this Makefile did not make; it would be emptied. VENV= names another."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e serving -e .
	@touch $@

quickstart: setup ## From nothing to a served prediction
	$(BIN)/python scripts/quickstart.py

test: setup ## The tests, some ten minutes on two cores, and the laws that a change reaches
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "not slow"
	$(BIN)/python scripts/slow.py laws
	cd serving && $(abspath $(BIN))/python -m pytest -n 2 --dist loadfile -q -m "not slow"

test-slow: setup ## The slow tests that a change reaches, twenty kills among them
	$(BIN)/python scripts/slow.py changed

test-all: lint types test ## Style, types, all tests, the mutants, the executed notebooks, the docs
	$(BIN)/python scripts/slow.py all
	$(MAKE) VENV=$(VENV) mutants notebooks docs

mutants: setup ## Make the house wrong in some forty ways: its tests must notice each
	$(BIN)/python scripts/mutants.py

lint: setup ## Style
	$(BIN)/ruff check .
	$(BIN)/python scripts/hygiene.py

types: setup ## The types of what arsenal offers
	$(BIN)/python -m mypy

docs: setup ## The pages into site/
	$(BIN)/python scripts/pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: setup ## The figures of docs/benchmarks.md, against peers in environments of their own
	$(BIN)/python scripts/bench.py --write docs/benchmarks.md

bench-serving: setup ## The model server's figures, against peers in environments of their own
	$(BIN)/python scripts/bench_serving.py

notebooks: setup ## Execute the notebooks in place
	$(BIN)/python scripts/run_notebooks.py notebooks

wheels: setup ## Build both wheels into dist/
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist serving
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist .

lock: ## Pin versions and hashes anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package ml-arsenal-serving \
		--group dev --output-file requirements.lock pyproject.toml serving/pyproject.toml
	cd serving && uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--output-file requirements.lock pyproject.toml
	cd serving && cp requirements.lock requirements-cuda.lock
	cd serving && uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra cuda \
		--output-file requirements-cuda.lock pyproject.toml

clean: ## Remove what was made, runs excepted
	rm -rf $(VENV) dist build site .pytest_cache .ruff_cache .mypy_cache
