# Every target sets itself up: the environment is made at the first use and again when its requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file of tests stays with one worker, which makes once what its tests share.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo test ui check check-all check-gpu data bench format clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("tunewright needs Python 3.10 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m webui.cli demo

test: $(VENV)/.ready
	$(PYTEST) -m 'not slow'

ui: $(VENV)/.ready
	$(BIN)/python -m webui.cli ui

check: $(VENV)/.ready
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(PYTEST) -m 'not slow'

check-all: $(VENV)/.ready data
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(PYTEST)

check-gpu: $(VENV)/.ready
	TUNEWRIGHT_GPU_TESTS=1 $(BIN)/python -m pytest tests/backend/gpu

data: $(VENV)/.ready
	$(BIN)/python tests/realdata/fetch.py

bench: $(VENV)/.ready
	$(BIN)/python tests/bench/run.py

format: $(VENV)/.ready
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
