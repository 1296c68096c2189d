# Everything a contributor does. `make help` lists it.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
UV_VERSION := 0.9.0
ARGS ?=
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint templates bench docs lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

# uv from PATH, else into a folder of our own with the pip of the system's Python.
.cache/uv/ready:
	@mkdir -p .cache/uv
	@if command -v uv >/dev/null; then ln -sf "$$(command -v uv)" .cache/uv/uv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .cache/uv/lib 'uv>=$(UV_VERSION)' \
	  && ln -sf ../uv/lib/bin/uv .cache/uv/uv; \
	elif $(PYTHON) -m venv .cache/uv/venv; then \
	  .cache/uv/venv/bin/pip install --quiet 'uv>=$(UV_VERSION)' && ln -sf venv/bin/uv .cache/uv/uv; \
	else echo "Install uv, or pip or venv for $(PYTHON) (Debian: apt install python3-venv), then run make again."; exit 1; fi
	@touch $@

$(STAMP): .cache/uv/ready requirements.lock pyproject.toml
	@.cache/uv/uv venv --quiet --allow-existing --python '>=3.11' $(VENV)
	@.cache/uv/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@.cache/uv/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(STAMP) ## Run the main job on this machine and leave the server up (ARGS=--exit ends it)
	@$(BIN)/actorium demo $(ARGS)

test: $(STAMP) ## All tests that need nothing but Python
	@$(BIN)/pytest -n 3 --dist loadgroup $(ARGS)

test-all: $(STAMP) ## All tests: PostgreSQL, an S3 server, Docker, Node.js and the stock CLI too
	@$(BIN)/pytest -n 3 --dist loadgroup --postgres --s3 --docker --node --long --fault-rounds 20 $(ARGS)

lint: $(STAMP) ## Style, types, import contracts, dead code, generated pages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/vulture
	@$(BIN)/python docs/generate.py --check

docs: $(STAMP) ## Write the generated pages anew
	@$(BIN)/python docs/generate.py

templates: $(STAMP) ## Build and run an Actor of every official template's shape, write docs/templates.md
	@$(BIN)/python tests/templates/build_all.py $(ARGS)

bench: $(STAMP) ## Measure against the bare floor and print ratios
	@$(BIN)/python bench/run.py $(ARGS)

lock: .cache/uv/ready ## Compile requirements.lock anew from pyproject.toml
	@.cache/uv/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --all-extras --group dev pyproject.toml -o requirements.lock

clean: ## Remove everything made here
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .import_linter_cache
