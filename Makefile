# make help, or make alone, prints these lines:
#
#   make reproduce   environment, then the default run (config.yaml): results/photos/report.html
#   make test        environment, then the tests
#   make env         the environment in .venv alone
#   make lint        ruff
#   make docs        the site of docs/ in site/, with an environment of its own in .venv-docs
#   make lock        write requirements.lock anew from pyproject.toml (needs uv)
#   make clean       remove the environment, all results and all data
#
#   PYTHON=/path/to/python3.11 chooses the interpreter: make test PYTHON=...

.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: help reproduce test env lint docs lock clean

help:
	@sed -n 's/^#   //p' Makefile

reproduce: env
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all

test: env
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest

env: $(STAMP)

# The stamp is written last: an installation that was interrupted is done again. The lock is complete,
# and --no-deps keeps to it: pyiqa's other dependencies are left out on purpose (pyproject.toml).
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "irbench needs Python 3.11, found no $(PYTHON)." \
	  "Install it, or give its path: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "irbench's lock is for Python 3.11; $(PYTHON) is $$($(PYTHON) -V)." \
	  "Give its path: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the locked packages into $(VENV) (several GB, a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation -e .
	touch $@

lint: env
	$(BIN)/ruff check .

# The site needs none of irbench's packages: its API pages are read from the source.
docs: .venv-docs/.complete
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "The site: $(CURDIR)/site/index.html"

.venv-docs/.complete: pyproject.toml
	$(PYTHON) -m venv --clear .venv-docs
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["docs"], sep="\n")' \
	  | .venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	touch $@

lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev \
	  --extra tensorboard --group weights --no-header --upgrade pyproject.toml \
	  -o requirements.lock

clean:
	rm -rf $(VENV) .venv-docs site .snakemake results/*/ data
