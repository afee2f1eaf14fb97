# Each target sets up what it needs in .venv. Windows equivalents are in the README.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench prove clean

SEEDS ?= 1000

demo: .venv/examples
	$(BIN)/python -m examples.lunar_lander

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench
	$(BIN)/python -m bench $(BENCH)

prove: .venv/dev
	$(BIN)/python -m tests.simulator --seed 1 --count $(SEEDS) --journal build/prove.jsonl
	$(BIN)/python -m tests.simulator.crash_points
	$(BIN)/python -m tests.simulator.planted

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache

.venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
