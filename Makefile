# make demo | test | lint | bench | up ; SIZE=1024 makes a quick demonstration.
PYTHON ?= python3
VENV ?= .venv
SIZE ?= 4096
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: install demo up test lint bench clean

install: $(READY)

$(READY): requirements.txt requirements-dev.txt constraints.txt $(wildcard */pyproject.toml */*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(READY)
	$(BIN)/iris demo --size $(SIZE)

up: $(READY)
	$(BIN)/iris up

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shared/src services/*/src tests/simulator/src
	$(BIN)/mypy tests --exclude '^tests/simulator/src/'
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest --numprocesses 2

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks -o python_files='bench_*.py'

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
