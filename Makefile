# make demo | test | lint | bench | up | down
# SIZE=1024 makes a quick demonstration; BUS=rabbitmq a distributed one, with STORE=s3 on an S3 server.
PYTHON ?= python3
VENV ?= .venv
SIZE ?= 4096
BUS ?= memory
STORE ?= directory
DATA ?= observatory
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SWIFT := $(VENV)/swift/.installed
# Debian packages without which nothing works here; installed where they are missing (as root, else named).
DEBIAN ?= $(notdir $(PYTHON))-venv
# What only some targets need: the servers that the settings ask for.
SERVERS := $(if $(filter rabbitmq,$(BUS)),rabbitmq) $(if $(filter s3,$(STORE)),$(SWIFT))

