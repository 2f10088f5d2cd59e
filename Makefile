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
#   PYTHON=/path/to/python3.13 chooses the interpreter, any from 3.11 to 3.14: make test PYTHON=...
#   Without it: what uv finds or brings, if uv is installed; else the first of python3.11 to python3.14.

.DEFAULT_GOAL := help
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
FOUND = $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,\
  $(shell $(name) -c '$(FITS)' 2> /dev/null && echo $(name))))
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
ifdef PYTHON
	@command -v $(PYTHON) > /dev/null || { echo "found no $(PYTHON). Give the path of a Python from 3.11" \
	  "to 3.14: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c '$(FITS)' || { echo "irbench needs Python 3.11 to 3.14; $(PYTHON) is" \
	  "$$($(PYTHON) -V 2> /dev/null || echo none). Give the path of another: make PYTHON=/path/to/python3.13" \
	  "$(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
else
	@if command -v uv > /dev/null; then \
	  uv venv --quiet --seed --clear --python '>=3.11,<3.15' $(VENV); \
	elif [ -n "$(FOUND)" ]; then $(FOUND) -m venv --clear $(VENV); \
	else echo "irbench needs Python 3.11 to 3.14, and found none. Install one, or uv (which brings" \
	  "one: https://docs.astral.sh/uv), or give its path: make PYTHON=/path/to/python3.13" \
	  "$(MAKECMDGOALS)" >&2; exit 2; fi
endif
	@echo "Installing the locked packages into $(VENV), with $$($(BIN)/python -V) of" \
	  "$$($(BIN)/python -c 'import sys; print(sys.base_prefix)') (several GB, a few minutes)"
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
	$(or $(PYTHON),$(FOUND),python3) -m venv --clear .venv-docs
	.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["docs"], sep="\n")' \
	  | .venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	touch $@

lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev \
	  --extra tensorboard --group weights --no-header --upgrade pyproject.toml \
	  -o requirements.lock

clean:
	rm -rf $(VENV) .venv-docs site .snakemake results/*/ data
