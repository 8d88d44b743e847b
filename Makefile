# make demo | test | test-peers | lint | bench | gpu | chaos | up | down
# SIZE=1024 makes a quick demonstration; BUS=rabbitmq a distributed one, with STORE=s3 on an S3 server.
PYTHON ?= python3
VENV ?= .venv
SIZE ?= 4096
BUS ?= memory
STORE ?= directory
DATA ?= observatory
SEED ?= 1
CASE ?=
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SWIFT := $(VENV)/swift/.installed
CUDA := $(VENV)/cuda/.installed
# Debian packages without which nothing works here; installed where they are missing (as root, else named).
DEBIAN ?= $(notdir $(PYTHON))-venv
# What only some targets need: the servers that the settings ask for.
SERVERS := $(if $(filter rabbitmq,$(BUS)),rabbitmq) $(if $(filter s3,$(STORE)),$(SWIFT))

.PHONY: install swift rabbitmq compiler demo up down test test-peers lint kernels contract bench bench-readout bench-bus bench-lanes bench-crds gpu chaos clean

install: $(READY)

$(READY): deploy/debian-packages requirements.txt requirements-dev.txt constraints.txt $(wildcard */pyproject.toml */*/pyproject.toml) shared/setup.py shared/irisdrs_crds.pth
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

# The compiler of CUDA kernels, for tests on machines without a device.
$(CUDA): deploy/cuda-requirements.txt constraints.txt | $(READY)
	$(VENV)/cuda/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)/cuda
	$(VENV)/cuda/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/cuda-requirements.txt
	touch $@

# The broker of the tests and of distributed demonstrations.
rabbitmq:
	deploy/debian-packages rabbitmq-server || test -z "$$CI"  # at a desk its tests are skipped

# What makes the library of a process with a wrong clock.
compiler:
	deploy/debian-packages gcc libc6-dev || test -z "$$CI"

demo: $(READY) $(SERVERS)
	$(BIN)/iris demo --size $(SIZE) --bus $(BUS) --store $(STORE)

# The distributed system on this machine, in the background; what BUS=memory runs is `iris up`.
up: $(READY) rabbitmq $(SERVERS)
	$(BIN)/iris observatory up --data $(DATA) --store $(STORE) --detach

down: $(READY)
	$(BIN)/iris observatory down --data $(DATA)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shared/src services/*/src tests/simulator/src
	$(BIN)/mypy tests --exclude '^tests/simulator/src/'
	$(BIN)/lint-imports

# What tests need compiled, before their processes would each compile it.
kernels: $(READY)
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m tests.kernels

# Neither the checks nor the compiler use more than one processor.
test: $(SWIFT) $(CUDA) rabbitmq compiler
	$(MAKE) --no-print-directory --jobs 2 lint kernels
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --durations 20

# What holds when others' programs work with ours, as their users start them: STScI's client of CRDS, strun.
test-peers: kernels
	$(BIN)/python -m pytest -m peers --numprocesses 3 --dist worksteal --durations 10

# JSON Schemas and AsyncAPI document of the events, from their classes; RELEASE=1 freezes them, when a version is released.
contract: $(READY)
	$(BIN)/iris topology --contract shared/contract $(if $(RELEASE),--release)

bench: $(READY) $(SWIFT) rabbitmq
	$(BIN)/python -m pytest -s tests/benchmarks -o python_files='bench_*.py'
	$(BIN)/python -m tests.benchmarks.bench_readout
	$(BIN)/python -m tests.benchmarks.bench_crds
	$(BIN)/python tests/benchmarks/bench_readout_reference_pixels.py
	$(BIN)/python tests/benchmarks/bench_simulator_read.py

# How fast reads become a frame, beside NumPy, stcal and the bandwidth of the memory.
bench-readout: $(READY)
	$(BIN)/python -m tests.benchmarks.bench_readout --json tests/benchmarks/readout.json

# How fast events and objects travel over RabbitMQ and S3.
bench-bus: $(READY) $(SWIFT) rabbitmq
	$(BIN)/python -m pytest -s tests/benchmarks/bench_bus.py tests/benchmarks/bench_store_put.py tests/benchmarks/bench_loop_delay.py

# Whether real time waits for bulk work.
bench-lanes: $(READY) rabbitmq
	$(BIN)/python -m pytest -s tests/benchmarks/bench_lanes.py

# How fast best references are told, beside the plain crds client.
bench-crds: $(READY)
	$(BIN)/python -m tests.benchmarks.bench_crds --json tests/benchmarks/crds.json

# Whether a CUDA device makes the processor's frames, bit for bit, and how fast. On a machine with a device, where it needs
# NumPy, numba and numba-cuda, and nothing else.
gpu:
	PYTHONPATH=shared/src:services/readout/src $(PYTHON) -m tests.gpu --json tests/benchmarks/gpu.json

# What holds when services are killed and servers fail; CASE=broker-killed,store-away plays some of the cases.
chaos: $(READY) $(SWIFT) rabbitmq compiler
	$(if $(CASE),,$(BIN)/python -m pytest -m chaos tests/contract tests/flow)
	$(BIN)/python -m tests.chaos --seed $(SEED) --case "$(CASE)"

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
