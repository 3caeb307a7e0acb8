# `make quickstart` runs the main job, `make test` the tests; both set up `.venv` first, once.
# `make docs` builds the documentation in build/site/html, and fails on a broken link.
# `make test-slow` runs the slow ones too, on the newest dependencies there are, and the others and the kills again on
# the oldest that setup.cfg promises, in `.venv-oldest`: so PYTHON_OLDEST must be 3.11 or 3.12, as old as they are. A
# warning is an error but there: later versions have mended what old ones warn of.
PYTHON ?= python3
PYTHON_OLDEST ?= $(PYTHON)
BIN := .venv/bin
# The tests run on one thread each, a file on each core: what a file's tests share is made once.
PYTEST := pytest -n auto --maxprocesses 8 --dist loadfile

.PHONY: quickstart test test-slow test-services test-browser test-fuzz lint docs

quickstart: .venv/installed
	$(BIN)/attend run quickstart --yes

test: .venv/installed-test
	$(BIN)/$(PYTEST) -m "not slow and not services and not browser"

test-slow: .venv/installed-test .venv-oldest/installed
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[slow]'
	HYPOTHESIS_PROFILE=slow $(BIN)/$(PYTEST) -m "not services and not browser"
	.venv-oldest/bin/$(PYTEST) -W default -m "not slow and not services and not browser"
	.venv-oldest/bin/$(PYTEST) -W default -m slow tests/experiments/test_kills.py

# With real parts: workers that are killed and frozen on a PostgreSQL server of its own (Debian's package: apt-get install
# postgresql), one run by two processes against one by one, and fifty random kills of `attend run`.
test-services: .venv/installed-test
	$(BIN)/pytest -m services
	$(BIN)/pytest tests/runs/test_processes.py
	$(BIN)/pytest 'tests/experiments/test_kills.py::test_killed_and_run_again_is_as_undisturbed[50-run]'

# In headless Chromium, from Debian's packages: apt-get install --no-install-recommends chromium chromium-driver
test-browser: .venv/installed-test
	$(BIN)/pytest -m browser

# Coverage-guided, ten minutes: files of every reader, changed byte by byte. On Linux only, where atheris has wheels.
test-fuzz: .venv/installed-test
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzzing

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv/installed-docs
	$(BIN)/python -m docs.site

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "attend needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "could not make .venv: on Debian, apt-get install python3-venv"; exit 1; }

.venv/installed: setup.cfg pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-test: setup.cfg pyproject.toml .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

.venv/installed-docs: setup.cfg pyproject.toml .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@

.venv-oldest/installed: setup.cfg pyproject.toml tests/oldest.txt
	@$(PYTHON_OLDEST) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "the oldest dependencies need Python 3.11 or 3.12: make test-slow PYTHON_OLDEST=/path/to/python3.11"; exit 1; }
	$(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --editable '.[test]' --constraint tests/oldest.txt
	@touch $@
