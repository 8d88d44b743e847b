# make demo | test | lint | bench | up ; SIZE=1024 makes a quick demonstration.
PYTHON ?= python3
VENV ?= .venv
SIZE ?= 4096
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SWIFT := $(VENV)/swift/.installed
# Debian packages without which nothing works here; installed where they are missing (as root, else named).
DEBIAN ?= $(notdir $(PYTHON))-venv

.PHONY: install swift demo up test lint bench clean

install: $(READY)

$(READY): deploy/debian-packages requirements.txt requirements-dev.txt constraints.txt $(wildcard */pyproject.toml */*/pyproject.toml)
	PYTHON="$(PYTHON)" deploy/debian-packages $(DEBIAN)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# The S3 server of the tests, in a virtual environment of its own.
$(SWIFT): deploy/swift-requirements.txt | $(READY)
	$(VENV)/swift/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)/swift
	$(VENV)/swift/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/swift-requirements.txt
	touch $@

swift: $(SWIFT)

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

test: lint $(SWIFT)
	$(BIN)/python -m pytest --numprocesses 2

bench: $(READY) $(SWIFT)
	$(BIN)/python -m pytest tests/benchmarks -o python_files='bench_*.py'

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
