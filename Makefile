# The one vocabulary: people, hooks and CI type these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .slimline/peers
OLIVE := .slimline/olive
TRITON := .slimline/triton

.PHONY: run up down status test test-fast test-browser test-triton test-gpu test-wheel test-processors test-slow processors lint format docs lock bench bench-conversion bench-post-training bench-serving bench-training bench-accelerators bench-compression bench-channels bench-pairs bench-coverage bench-seeds bench-campaign clean
.DEFAULT_GOAL := run

run: $(READY) ## compress a model on the handwritten digits, and register it
	$(BIN)/slimline run digits

up: $(READY) ## Prefect, MLflow and a worker, until Ctrl-C: [PREFECT_SERVER_API_PORT=4200] [MLFLOW_PORT=5000]
	@$(BIN)/slimline up

down: $(READY) ## end what `up` started
	@$(BIN)/slimline down

status: $(READY) ## what is up, and where
	@$(BIN)/slimline status

# One worker more than the two cores that this is made for: servers that start and runs that are awaited leave one idle.
# In the order of tests/conftest.py, the long files first; of itself pytest-xdist takes those of the most tests first.
WORKERS := 3
test: $(READY) ## all fast and flow tests: [WORKERS=3]
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not browser and not processors and not triton and not gpu"

# What needs no flow, no server and no file of a model: two minutes.
FAST := tests/test_layers.py $(addprefix tests/,contract measuring drift data evidence store zoo training) \
	$(addprefix tests/keras_graph/test_,rebuild.py activations.py) tests/channels/test_graph.py tests/versions/test_address.py \
	$(addprefix tests/quantization/test_,calibration.py pair_rule.py) $(addprefix tests/flows/test_,recipe.py budget.py grammar.py)

test-fast: $(READY) ## what to run at the desk, in two minutes
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not browser and not processors and not triton and not gpu" $(FAST)

test-browser: $(READY) ## what a person does in Chromium, from `make up` on: [SCREENSHOTS=folder that gets the pictures]
	$(BIN)/pytest -m browser

test-wheel: $(READY) ## what a person gets who installs the wheel: an empty environment, a folder of their own, no checkout
	$(BIN)/pytest -m slow tests/deployments/test_wheel.py

test-triton: $(READY) ## Triton's own server on a bundle's repository, its python backend in the place of the onnxruntime one
	$(MAKE) --no-print-directory $(TRITON)/.ready
	TRITON=$(TRITON) $(BIN)/pytest -m triton tests/deployments/test_triton.py

test-gpu: $(READY) ## trainings on a GPU beside those on the processor, where TensorFlow finds one
	$(BIN)/pytest -m gpu tests/training/test_on_gpu.py

test-processors: $(READY) ## the same integers on processors that are not here, under QEMU
	-@$(MAKE) --no-print-directory processors
	$(BIN)/pytest -m processors

processors: $(READY) ## what `slimline verify --processors` asks: makes the ARM64 one's system, says which there are
	$(BIN)/python -m tasks.processors

test-slow: $(READY) ## minutes, or real data
	$(BIN)/pytest -m slow

lint: $(READY) ## what a reviewer should not have to say
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry . docs/hooks
	@# and with the tests, which may import what is for developers alone (but what Triton gives its Python); modules beside these two are roots of their own
	$(BIN)/deptry . docs/hooks tests/support --exclude '\.|build/|tests/deployments/triton/' --ignore DEP002,DEP004

format: $(READY) ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## the documentation as a site, in .slimline/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(READY) ## where the time of a run goes, measured
	$(BIN)/python benchmarks/orchestration.py

bench-conversion: $(READY) ## ways to integers, compared: [DATA=folder with CIFAR-10 as train.parquet, test.parquet] [OFFICIAL=folder of MLPerf Tiny models]
	-@$(MAKE) --no-print-directory $(PEERS)/.ready
	$(BIN)/python -m benchmarks.conversion --peers $(PEERS)/bin/python $(if $(DATA),--data $(DATA)) $(if $(OFFICIAL),--official $(OFFICIAL))

bench-post-training: $(READY) ## Keras' ResNet50 and MobileNetV2 at 224 pixels, after training, beside NNCF and quantize_static: half an hour
	-@$(MAKE) --no-print-directory $(PEERS)/.ready
	$(BIN)/python -m benchmarks.post_training --peers $(PEERS)/bin/python

bench-serving: $(READY) ## what it costs to be asked over the network: [VERSION=models:/digits@champion]
	$(BIN)/python -m benchmarks.serving $(VERSION)

bench-training: $(READY) ## an epoch of training beside plain Keras, with a teacher and without: rows a second, memory
	$(BIN)/python -m benchmarks.training

bench-accelerators: $(READY) ## epochs of ResNet-50 on a GPU beside plain Keras, in three precisions: images a second, memory
	$(BIN)/python -m benchmarks.accelerators

bench-compression: $(READY) ## compression beside the tools one would take instead: DATA=folder with CIFAR-10
	-@$(MAKE) --no-print-directory $(PEERS)/.ready
	-@$(MAKE) --no-print-directory $(OLIVE)/.ready
	$(BIN)/python -m benchmarks.compression --peers $(PEERS)/bin/python --olive $(OLIVE)/bin/python --data $(DATA)

bench-channels: $(READY) ## whether rounded channel counts pay
	$(BIN)/python -m benchmarks.channels

bench-pairs: $(READY) ## kernels that cannot saturate, beside other ways: [DATA=folder with CIFAR-10] [OFFICIAL=folder of MLPerf Tiny models] [TIMING_ONLY=1: the same files again]
	$(BIN)/python -m benchmarks.pairs $(if $(DATA),--data $(DATA)) $(if $(OFFICIAL),--official $(OFFICIAL)) $(if $(TIMING_ONLY),--timing-only)

bench-coverage: $(READY) ## how often the speed-up's 95% interval contains the ratio that many sittings have in common: ten minutes
	$(BIN)/python -m benchmarks.coverage

bench-seeds: $(READY) ## whether the digits recipe lives by a lucky seed: 20 of them, half an hour
	$(BIN)/python -m benchmarks.seeds deployments/recipes/digits.yaml

bench-campaign: $(READY) ## `kill -9` at random moments of every command, and what must hold then: hours; goes on where it was [MOMENTS=40]
	$(BIN)/python -m benchmarks.campaign $(if $(MOMENTS),--moments $(MOMENTS))

lock: $(READY) ## pin what pyproject.toml asks for, and leave the other pins: [UPGRADE=1 to resolve every version anew]
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra docs --extra shared --extra serve --extra signing --universal --generate-hashes --python-version 3.11 $(if $(UPGRADE),--upgrade) --quiet -o requirements.lock
	$(BIN)/uv pip compile tasks/processors/arm64.in -c requirements.lock --generate-hashes --python-version 3.11 --python-platform aarch64-manylinux_2_28 $(if $(UPGRADE),--upgrade) --quiet -o tasks/processors/arm64.txt

define LOST
import sqlite3
found = sqlite3.connect("file:.slimline/mlflow.db?mode=ro", uri=True).execute(
    "SELECT name, COUNT(*) FROM model_versions WHERE current_stage != 'Deleted_Internal' GROUP BY name"
)
print(", ".join(f"{name} ({count})" for name, count in found) or "none")
endef
export LOST

clean: ## forget the environment and all state: [YES=1 does not ask whether a registry may go]
	@if [ -e .slimline/mlflow.db ] && [ -z "$(YES)" ]; then \
		echo ".slimline is a registry, with every model, run and schedule of it: $$(du -sh .slimline | cut -f1)"; \
		echo "Registered versions: $$($(PYTHON) -c "$$LOST" 2>/dev/null || echo 'the database cannot be read')"; \
		echo "Old runs alone go with slimline gc; slimline backup FILE keeps a copy of all."; \
		answer=; \
		if [ -t 0 ]; then printf '%s' "Type yes to remove all of it: "; read answer || echo; \
		else echo "Without a terminal it is removed by make clean YES=1 alone."; fi; \
		[ "$$answer" = yes ] || { echo "nothing was removed"; exit 1; }; \
	fi
	rm -rf $(VENV) .slimline

# Every script of an environment has its address in its first line: where the folder was moved it is made anew.
ifneq ($(filter-out $(CURDIR),$(shell cat $(READY) 2>/dev/null)),)
.PHONY: $(READY)
endif

# uv installs the whole set in about twenty seconds, where pip takes minutes; its version is a tool's, not a result's.
# Compiling every module once takes a minute more and halves each later start, also where Python may not write .pyc files.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Slimline needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -P -m flows.embedded
	@echo '$(CURDIR)' > $@

# Other tools' environment: what they bring must not decide our versions. Where it cannot be made, their rows say so.
$(PEERS)/.ready: benchmarks/peers/requirements.txt | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --require-hashes -r benchmarks/peers/requirements.txt
	@touch $@

# Triton needs another NumPy. Its python backend looks for the stub beside itself, and the package has one for each Python.
$(TRITON)/.ready: tests/deployments/triton/requirements.txt | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TRITON)
	$(BIN)/uv pip install --quiet --python $(TRITON)/bin/python --require-hashes -r tests/deployments/triton/requirements.txt
	cd $(TRITON)/lib/python3.*/site-packages/pytriton/tritonserver && \
		cp python_backend_stubs/$$(basename $$(realpath ../../..) | sed s/python//)/triton_python_backend_stub backends/python/
	@touch $@

# Olive apart from them: it brings PyTorch, on Linux with some GB of CUDA's libraries.
$(OLIVE)/.ready: benchmarks/peers/olive.txt | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLIVE)
	$(BIN)/uv pip install --quiet --python $(OLIVE)/bin/python --require-hashes -r benchmarks/peers/olive.txt
	@touch $@
