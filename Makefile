# `make` alone tells what there is. Everything runs in .venv, which is made from the hashed locks when it is needed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
NODE_TOOLS := tools/node/node_modules/.installed
GENERATORS := .venv-clients/.installed tests/clients/node/node_modules/.installed
# A pytest process for each core of a small machine; the tests wait more than they work.
WORKERS ?= 2
# Programs that the tests need, where they could not be installed on the machine.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: help
help: ## Tell what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml locks/build.txt locks/dev.txt tools/bootstrap
	@PYTHON='$(PYTHON)' tools/bootstrap
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make .venv with exactly the locked packages

# Packages that pyproject.toml names and no lock has yet make the installation fail, but not before it has uv.
$(BIN)/uv:
	@PYTHON='$(PYTHON)' tools/bootstrap || test -x $@

$(NODE_TOOLS): tools/node/package.json tools/node/package-lock.json tools/npm | $(INSTALLED)
	@echo "Installing the locked linters of OpenAPI"
	@tools/npm ci --prefix tools/node --loglevel error >/dev/null
	@touch $@

.venv-clients/.installed: locks/clients.txt tools/bootstrap-clients | $(INSTALLED)
	@tools/bootstrap-clients
	@touch $@

tests/clients/node/node_modules/.installed: $(wildcard tests/clients/node/package*.json) tools/npm | $(INSTALLED)
	@echo "Installing the locked generators of clients in TypeScript"
	@tools/npm ci --prefix tests/clients/node --loglevel error >/dev/null
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Renew one VM of a simulated cluster, step by step
	@$(BIN)/python tools/demo.py

.PHONY: run
run: $(INSTALLED) ## Keep the service and a simulated cluster up for trying
	@$(BIN)/python tools/demo.py --keep

.PHONY: test
test: lint types contracts $(NODE_TOOLS) $(GENERATORS) ## Everything that must hold: lint, types, contracts, all tests
	@tools/need sshd=openssh-server curl=curl jq=jq promtool=prometheus
	$(BIN)/python -m pytest -n $(WORKERS)

.PHONY: unit
unit: $(INSTALLED) ## The tests that need no server, in seconds
	$(BIN)/python -m pytest tests/ngt tests/settings tests/test_telemetry.py

.PHONY: lint
lint: $(INSTALLED) ## The rules of style, the format, plain English, and that the locks fit
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tools/check_locks.py
	$(BIN)/python tools/check_english.py

.PHONY: fmt
fmt: $(INSTALLED) ## Mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: $(INSTALLED) ## mypy, strict
	$(BIN)/python -m mypy

.PHONY: contracts
contracts: $(INSTALLED) ## Which package may import which
	$(BIN)/lint-imports

.PHONY: openapi
openapi: $(INSTALLED) ## Write the two OpenAPI documents anew
	$(BIN)/python -m app openapi > openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json
	$(BIN)/python -m app openapi --plain > openapi/openapi-3.0.json.new
	mv openapi/openapi-3.0.json.new openapi/openapi-3.0.json

.PHONY: release-openapi
release-openapi: openapi ## Keep the OpenAPI document as that of a release: what it promises cannot be taken back
	cp openapi/openapi.json openapi/released.json

.PHONY: clients
clients: $(GENERATORS) ## Generate clients in Python, TypeScript, Java and Go, and have each renew a VM
	@tools/need-compilers
	$(BIN)/python -m pytest -n $(WORKERS) -m '' tests/clients

.PHONY: fuzz
fuzz: $(INSTALLED) ## Call every operation with 400 requests made from the document, and a new seed each time
	@seed=$${FUZZ_SEED:-$$RANDOM$$RANDOM} && echo "The same again: make fuzz FUZZ_SEED=$$seed" && \
	  FUZZ_EXAMPLES=400 FUZZ_SEED=$$seed $(BIN)/python -m pytest -s tests/contract/test_service.py

.PHONY: docs
docs: $(INSTALLED) ## Write docs/errors.md, docs/diagnosis.md and docs/clients.md anew
	$(BIN)/python tools/errors_page.py
	$(BIN)/python tools/diagnosis_page.py
	$(BIN)/python -m tests.clients.page

.PHONY: migration
migration: $(INSTALLED) ## Write a migration from the changed tables: make migration m="Add a column"
	@$(BIN)/python tools/migration.py '$(m)'

.PHONY: bench
bench: $(INSTALLED) ## Measure 200 renewals beside a bare loop that sends the same commands
	@tools/need sshd=openssh-server
	$(BIN)/python -m tests.bench

.PHONY: lock
lock: | $(BIN)/uv ## Resolve all packages anew; U=1 takes newer versions too
	tools/lock $(if $(U),--upgrade)

.PHONY: clean
clean: ## Remove what was made here: .venv, caches, builds
	rm -rf .venv .venv-clients .tools tools/node/node_modules tests/clients/node/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist var
	find app migrations tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
