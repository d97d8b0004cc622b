# Two commands do all set-up on a fresh machine: `make demo` and `make test`. They need python3 (3.11 or newer) with venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --editable

KINDS := test-swap test-sound test-others

# The tests start hundreds of interpreters, each of which would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# make demo SAMPLES=folder REAL=1 OUTPUT=null REPEAT=10 STRATEGIES=none,willneed
# make demo REAL=1 PREDICT=1 DEVICES=unthrottled,400iops,2MB/s,zram
DEMO_FLAGS := $(if $(SAMPLES),--samples "$(SAMPLES)") $(if $(REAL),--real) $(if $(OUTPUT),--output "$(OUTPUT)") \
	$(if $(REPEAT),--repeat $(REPEAT)) $(if $(STRATEGIES),--strategies $(STRATEGIES)) \
	$(if $(DEVICES),--devices $(DEVICES)) $(if $(PREDICT),--predict) $(if $(PAGE),--page "$(PAGE)")

.PHONY: demo prediction test $(KINDS) check format generate bench wheel clean

demo: $(VENV)/.demo
	$(BIN)/python -m samplecache_demo $(DEMO_FLAGS)

# All devices, five times each, as root: some twenty minutes on a machine that has nothing else to do.
prediction: $(VENV)/.demo
	$(BIN)/python -m samplecache_demo --real --predict --output null --repeat 5 \
		--devices unthrottled,200iops,400iops,2MB/s,zram --page docs/prediction.md

# Many tests wait: for swap, for sound, for other processes. So those that swap, those that sound and the others run side
# by side, and what each has to say comes when it is done. TESTS are run alone: make test TESTS="tests/unit -k window"
test: $(VENV)/.dev
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	$(MAKE) --no-print-directory --keep-going --jobs 3 --output-sync $(KINDS)
endif

test-swap: $(VENV)/.dev
	$(BIN)/python -m pytest -m real_kernel

test-sound: $(VENV)/.dev
	$(BIN)/python -m pytest -m "sound and not real_kernel"

test-others: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not real_kernel and not sound" --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.dev
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "samplecache needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(INSTALL) '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(INSTALL) '.[bench]'
	touch $@
