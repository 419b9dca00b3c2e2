# `make` lists the targets. Everything runs in the environment .venv, which is made when it is missing.
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-long test-stress test-minio coverage check lint types layers docs docs-serve bench lowest wheel wheels clean
# Tests start many processes: each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.superluigi-installed
PYTEST := $(BIN)/python -m pytest
COMPOSE ?= docker compose
EVERYTHING := .[tutorial,dask,postgres,test,dev,docs]

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make the environment .venv with everything in it

# uv takes half the time of pip, but does not read pip's configuration, which may name another index.
$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --editable '$(EVERYTHING)' \
		|| $(BIN)/python -m pip install --quiet --editable '$(EVERYTHING)'
	touch $@

$(VENV)-demo/.superluigi-installed: setup.cfg
	test -x $(VENV)-demo/bin/python || $(PYTHON) -m venv $(VENV)-demo
	$(VENV)-demo/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-demo/bin/python -m pip install --quiet --editable '.[tutorial]'
	touch $@

# The demo needs little: where .venv is not there, it makes a smaller environment of its own.
DEMO := $(if $(wildcard $(STAMP)),$(VENV),$(VENV)-demo)

demo: $(DEMO)/.superluigi-installed ## flights in, predictions out, on an S3 server that starts by itself
	$(DEMO)/bin/python tutorials/flight_delays/demo.py

# Three workers for two cores: some tests wait for leases and processes rather than compute.
test: $(STAMP) ## the tests (some minutes)
	$(PYTEST) -n 3 --dist loadgroup

test-long: $(STAMP) ## hundreds of kills and all else that needs minutes
	$(PYTEST) -m "long or not long" --timeout 1800 -o faulthandler_timeout=1800

test-stress: $(STAMP) ## the tests and crowds, five rounds that load each other, with pauses at failpoints
	$(BIN)/python tests/stress/rounds.py 5 5

test-minio: $(STAMP) ## the S3 tests against the MinIO of docker-compose.yml
	$(COMPOSE) up --detach --wait minio
	$(COMPOSE) run --rm minio-buckets
	SUPERLUIGI_TEST_S3_ENDPOINT=http://127.0.0.1:9000 AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin \
		AWS_DEFAULT_REGION=us-east-1 $(PYTEST) -k "s3 or S3"

coverage: $(STAMP) ## lines and branches that the tests reach, in child processes too (twice as long as the tests)
	$(BIN)/python -m pip install --quiet 'coverage>=7.10'
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadgroup; $(BIN)/coverage combine --quiet; $(BIN)/coverage report

check: lint types layers docs test ## what a change must pass, and what CI runs: lint, types, layers, docs, tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP) ## the site, into site/; a link that leads nowhere fails (not with --quiet, which hides warnings from --strict)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(STAMP) ## the site on a local port, rebuilt as you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

bench: $(STAMP) ## every benchmark, quick; for real: python benchmarks/<name>.py
	for file in $$(grep -l -e --quick benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file --quick || exit 1; done

lowest: $(STAMP) ## compile requirements/lowest.txt, the oldest of each direct dependency
	$(BIN)/uv pip compile --resolution lowest-direct --python-version 3.11 --extra dask --extra postgres --extra tutorial \
		--extra test --no-header --no-annotate setup.py --output-file requirements/lowest.txt
	sed -i.old '1i # The oldest of each direct dependency: make lowest' requirements/lowest.txt && rm requirements/lowest.txt.old

wheel: $(STAMP) ## the wheel and the source package, into dist/
	$(BIN)/python -m build --quiet

wheels: $(STAMP) ## build the wheel, install it without extras on every Python from 3.10 to 3.13 found here
	$(PYTEST) -m "long or not long" --timeout 1800 tests/acceptance/test_wheel.py

clean: ## remove what was built; environments and data stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
