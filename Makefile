# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build. Plain `torch` would fetch gigabytes of CUDA; on a GPU machine: make demo TORCH=torch
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_DATA := examples/orders.jsonl

.PHONY: help demo test check fix docs proof bench setup clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.runtime ## Fine-tune the embedded model on the sample orders and judge it (two to three minutes on two cores)
	$(BIN)/luthier run $(DEMO_DATA) train.n_epochs=2

test: setup ## Everything CI runs: `make check`, then the tests
	$(MAKE) check
	$(BIN)/python -m pytest -m "not proof"

check: setup ## Format, lint, types, layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/generate.py --check

fix: setup ## Format, mend what ruff can mend, regenerate docs
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/generate.py

docs: setup ## Regenerate docs/reference
	$(BIN)/python docs/generate.py

proof: setup ## The slow proofs that CI cannot hold
	$(BIN)/python -m pytest -m proof -o timeout=7200 -s

bench: setup ## Measure speed against the peers, on an otherwise idle machine; pages go to docs/measurements
	$(BIN)/python benchmarks/train_speed.py --write docs/measurements/train-speed.md
	$(BIN)/python benchmarks/train_speed_search.py --rounds 1 --write docs/measurements/train-speed-settings.md
	$(BIN)/python benchmarks/product_shapes.py --write docs/measurements/product-shapes.md
	$(BIN)/python benchmarks/data_check.py --parts parse,full,near,peers

setup: $(VENV)/.dev ## Make the virtual environment with everything for development

clean: ## Remove the virtual environment and tool caches (not runs, not models)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Luthier needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 demo"; exit 3; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	@echo "Installing Luthier into $(VENV), about 1.5 GB …"
	$(PIP) "$(TORCH)"
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	@echo "Installing the tools for development …"
	$(PIP) -e ".[dev]"
	@touch $@
