# Two commands do everything: `make demo` and `make test`. Both set up their own virtual environment first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test torture soak bench lint lock clean

demo: $(READY)
	$(BIN)/python -m wandb_outbox demo

# Most tests wait for processes and clocks: two at a time take two thirds of the time. A file stays in one process, in its order.
test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The long version of tests/crash: over a thousand kills, every fault at every place, long outages. About an hour; the
# figures of the last run are in docs/torture.md.
torture: $(READY)
	@mkdir -p build && rm -f build/torture.jsonl
	WANDB_OUTBOX_TORTURE=1 WANDB_OUTBOX_TORTURE_REPORT=$(CURDIR)/build/torture.jsonl $(BIN)/python -m pytest -s tests/crash

# The long version of tests/replay: hundreds of random lives of runs before the live daemon, none taken early, none missed, none
# doubled, every crash found. About five minutes; more of them, or others: make soak LIVES=1000 SEED=7.
LIVES ?= 250
SEED  ?= 3
soak: $(READY)
	REPLAY_LIVES=$(LIVES) REPLAY_SEED=$(SEED) $(BIN)/python -m pytest -s --timeout 3600 tests/replay/test_replay_random.py

# Every figure beside its baseline, about 25 minutes on a quiet machine; single ones: make bench ONLY="backlog outbox".
bench: $(READY)
	$(BIN)/python -m benchmarks $(ONLY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip's own hash checking pins every dependency; the project itself is installed on top, without fetching anything.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "wandb-outbox needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(READY)

# Renew the locked versions (needs uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --group dev -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
