# Every target works first on a fresh clone: it makes .venv and installs what is needed.
#   make features EXPERIMENT=my.toml ARGS='--set run.device=cpu'
PYTHON ?= python3
EXPERIMENT ?= pipeline/experiments/demo.toml
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test features readouts finetune baseline report run lint bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vitv1 needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: install
	$(BIN)/vitv1 run pipeline/experiments/demo.toml $(ARGS)

run: install
	$(BIN)/vitv1 run $(EXPERIMENT) $(ARGS)

features: install
	$(BIN)/vitv1 extract $(EXPERIMENT) $(ARGS)

readouts: install
	$(BIN)/vitv1 fit $(EXPERIMENT) $(ARGS)

finetune: install
	$(BIN)/vitv1 finetune $(EXPERIMENT) $(ARGS)

baseline: install
	$(BIN)/vitv1 baseline $(EXPERIMENT) $(ARGS)

report: install
	$(BIN)/vitv1 report $(EXPERIMENT) $(ARGS)

test: install
	$(BIN)/python -m pytest -n logical --dist worksteal $(ARGS)

# Both sides of every comparison in one run, as ratios; takes some hours. BENCH=cache_trust runs one.
BENCH ?= house trust cache_trust cache_format extraction readouts on_trials combined finetune minimodels overlap scale costs
bench: install
	for name in $(BENCH); do PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
