# Everything sets itself up: `make demo` and `make test` on a fresh machine need only Python 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= alignwatch-demo
PIP_ARGS ?=

.PHONY: demo demo-service test test-vllm soak dashboards check tiny bench clean help
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

demo-service: $(VENV)/installed ## the monitor as a service with Prometheus and Alertmanager (KEEP=1 leaves it running)
	$(BIN)/python -m deploy.demo_service $(if $(KEEP),--keep)

# Two processes at a time, a file each: models are tiny and take one thread, and several tests start servers.
test: $(VENV)/installed check ## every check and every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

test-vllm: $(VENV)/installed ## the fleet against a real vLLM on the CPU (builds its environment: minutes, 4 GB)
	PIP_ARGS="$(PIP_ARGS)" deploy/vllm-cpu-env .vllm
	ALIGNWATCH_VLLM="$(CURDIR)/.vllm/bin/vllm" $(BIN)/python -m pytest tests/vllm -m vllm

dashboards: $(VENV)/installed ## write the Grafana dashboards anew
	$(BIN)/python -m deploy.grafana.build

soak: $(VENV)/installed ## 500 adapters on a fake clock and every fault in full (minutes)
	ALIGNWATCH_SOAK=1 $(BIN)/python -m pytest tests/soak tests/acceptance/test_faults.py -s

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
	$(BIN)/python -m benchmarks.together
	$(BIN)/python -m benchmarks.subspace
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.rescan
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.page

clean: ## remove what was built
	rm -rf $(VENV) .vllm .tools build *.egg-info $(DEMO) alignwatch-demo-service alignwatch-report
