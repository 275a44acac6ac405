# Two commands do it all on a machine that has Python (3.11 or later), make and a package index:
#   make tour   the environment, the installation, and the main job
#   make test   the same, and the tests
PYTHON ?= python3
BIN := .venv/bin
# Two workers, one thread each: on two cores more threads only wait for each other.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup tour test lint type bench
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/ready

tour: setup
	$(BIN)/zoo tour

test: setup
	$(TEST) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/zoo bench core
