# The one vocabulary: people, hooks and CI type these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test test-slow lint format lock bench clean
.DEFAULT_GOAL := run

run: $(READY) ## compress a model on the handwritten digits, and register it
	$(BIN)/slimline run deployments/recipes/digits.yaml

test: $(READY) ## all fast and flow tests
	$(BIN)/pytest -m "not slow and not browser"

test-slow: $(READY) ## minutes, or real data
	$(BIN)/pytest -m slow

lint: $(READY) ## what a reviewer should not have to say
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## where the time of a run goes, measured
	$(BIN)/python benchmarks/orchestration.py

lock: $(READY) ## resolve every version anew
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 --upgrade --quiet -o requirements.lock

clean: ## forget the environment and all state
	rm -rf $(VENV) .slimline

# uv installs the whole set in about twenty seconds, where pip takes minutes; its version is a tool's, not a result's.
# Compiling every module once takes a minute more and halves each later start, also where Python may not write .pyc files.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Slimline needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m flows.embedded
	@touch $@
