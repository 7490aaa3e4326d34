# make demo       install, then run the main job on the shipped log
# make test       install with the test tools, then run the tests
# make test-dgl2  run the graph tests on dgl 2.1.0 (the release for Python 3.12) in a second environment
# make sanitize   run the kernel tests on a build with AddressSanitizer and UBSan; SANITIZE=thread on one with ThreadSanitizer
# make wheel-check  build a wheel and run the kernel tests on it in a clean environment; TORCH=2.12.1+cpu gives that a torch of its own
# make lint       check style;  make bench: run the benchmarks;  make clean: remove what was built
#
# PYTHON=/path/to/python chooses the interpreter (3.10, 3.11 or 3.12), VENV=folder the environment.

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet -c constraints.txt --build-constraint constraints.txt
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/* kernels/*/*)
DGL2 := .venv-dgl2

.PHONY: demo test test-dgl2 sanitize wheel-check lint bench install clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

# One process for each core, each with one thread: threads of several processes would wait for each other.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-dgl2: $(VENV)/.installed-test $(DGL2)/.installed
	GRAPHREC_DGL2=$(CURDIR)/$(DGL2) $(BIN)/python -m pytest tests/graph/test_dgl_two.py $(PYTEST_ARGS)

# Python itself is not instrumented, so the sanitizers' runtimes are loaded before it; what Python and torch leak is theirs.
SANITIZE ?= address,undefined
RUNTIMES := $(if $(filter thread,$(SANITIZE)),tsan,asan ubsan)
# polars, which these two import, does not start under ThreadSanitizer; no test of theirs uses several threads.
LEFT_OUT := $(if $(filter thread,$(SANITIZE)),--ignore=tests/ops/test_neighbourhood.py --ignore=tests/ops/test_weighted_relation.py)
CXX ?= g++
sanitize: $(VENV)/.installed-test
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -G Ninja -S . -B build/sanitize-$(SANITIZE) -DGRAPHREC_SANITIZE=$(SANITIZE) -DGRAPHREC_STRICT=ON -DGRAPHREC_CUDA=OFF \
	  -DCMAKE_BUILD_TYPE=Debug >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/sanitize-$(SANITIZE) >/dev/null
	LD_PRELOAD="$(foreach name,$(RUNTIMES),$$($(CXX) -print-file-name=lib$(name).so))" ASAN_OPTIONS=detect_leaks=0 \
	  TSAN_OPTIONS=ignore_noninstrumented_modules=1 GRAPHREC_BACKEND=native \
	  GRAPHREC_LIBRARIES=build/sanitize-$(SANITIZE)/kernels $(BIN)/python -m pytest tests/ops -p no:cacheprovider $(LEFT_OUT) $(PYTEST_ARGS)

TORCH ?=
wheel-check: $(VENV)/.installed-test
	kernels/wheel_check.sh $(BIN)/python $(TORCH)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

bench: $(VENV)/.installed-test
	$(BIN)/python examples/benchmarks/ingest.py --rows 1000000
	@echo "The others need a data set: $(BIN)/python examples/benchmarks/quality.py --data DIR --model lightgcn"

install: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	@echo "Installing graphrec into $(VENV); the first time this downloads torch and takes some minutes."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(SOURCES) | $(BIN)/python
	@echo "Installing graphrec and its test tools into $(VENV); the first time this takes some minutes."
	@$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed

# A name on the PATH is not yet an interpreter that runs (version managers put stubs there), so each is tried.
$(BIN)/python:
	@for candidate in $(PYTHON) python3.11 python3.10 python3.12 python3 python; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	    >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  if [ "$$candidate" = "$(PYTHON)" ]; then echo "PYTHON=$(PYTHON) is no Python 3.10-3.12 with venv" >&2; exit 1; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "graphrec needs Python 3.10, 3.11 or 3.12 with its venv module; none was found on the PATH." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3.11-venv) or run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)
	@$(PIP) install --quiet -c constraints.txt --upgrade pip

$(DGL2)/.installed: constraints.txt
	rm -rf $(DGL2)
	$(PIP) install --quiet --no-deps --target $(DGL2) dgl==2.1.0
	@touch $@

clean:
	rm -rf $(VENV) $(DGL2) build dist graphrec/_native/*.so demo-output .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
