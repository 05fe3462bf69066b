# Every command of the project. `make` alone lists them.
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Threads that wait actively burn the cores that other processes need; the user's own setting wins.
export OMP_WAIT_POLICY ?= PASSIVE
# Wall time is won by two test processes, not by threads inside them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help install demo test test-all gpu lint types smoke wheel clean

help: ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## create .venv with vidreason (editable) and its development tools

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## the whole system on the embedded microworld: perceive, train both stages, evaluate, answer
	$(BIN)/vidreason demo

test: install ## the tests, in under ten minutes on two cores
	$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-all: install ## the tests and the longer proofs
	$(PYTEST) -n 2 --dist loadfile

gpu: install ## prove and measure on a GPU, in eight minutes (GPU_CHECK=--rehearse: small, on the CPU)
	$(BIN)/python -m experiments.gpu_check $(GPU_CHECK)

lint: install ## style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $$(git ls-files '*.md' '*.py' '*.yaml' '*.toml')

types: install ## mypy --strict on the four packages
	$(BIN)/mypy

smoke: install ## the demo at its smallest: every program once, in about a minute
	$(BIN)/vidreason demo quick=true run_dir=runs/smoke

wheel: install ## build the wheel into dist/
	$(BIN)/python -m uv build --wheel --no-build-isolation --python $(BIN)/python

clean: ## remove the environment, caches and builds (runs/ stays)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
