# Everything sets itself up: `make demo` and `make test` on a fresh machine need only Python 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= alignwatch-demo
PIP_ARGS ?=

.PHONY: demo test check tiny bench clean help
.DEFAULT_GOAL := help

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Without a GPU the CPU build of torch is asked for first: the plain requirement would fetch several
# gigabytes of CUDA libraries. PIP_ARGS takes whatever your package index needs.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@test -e /proc/driver/nvidia/version \
	  || $(BIN)/python -m pip install --quiet $(PIP_ARGS) "torch==2.13.0+cpu" 2>/dev/null \
	  || echo "no CPU build of torch in the package index; taking the one it has"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable ".[dev]"
	touch $@

demo: $(VENV)/installed ## the main job: build adapters on the tiny model, review them, print the table
	$(BIN)/alignwatch demo --out $(DEMO)

test: $(VENV)/installed check ## every check and every test
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: $(VENV)/installed ## ruff, mypy and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tiny: $(VENV)/installed ## rebuild the shipped tiny base, judge and Reference from their seeds (minutes)
	$(BIN)/python -m adapters.tiny.build all
	$(BIN)/python -m monitor.embedded_reference

bench: $(VENV)/installed ## ratios of docs/benchmarks.md, measured anew (minutes)
	$(BIN)/python -m benchmarks.battery
	$(BIN)/python -m benchmarks.subspace
	$(BIN)/python -m benchmarks.demo

clean: ## remove what was built
	rm -rf $(VENV) build *.egg-info $(DEMO) alignwatch-report
