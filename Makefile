# `make run` tries Hermes out, `make test` tests all of it; both work in a bare clone. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
MINUTES ?= 10
# Settings cannot be read without a secret key; each target that reads them gets one.
CHECK_ENV := DJANGO_SECRET_KEY=for-checks-only
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# What runs beside the others: half of the tests that touch SQL, and two thirds of all of them.
PROCESSES := tests/browser tests/e2e tests/test_admin_speed.py tests/test_health.py
BROWSERS := tests/browser tests/faults tests/test_admin_speed.py
SCENES := tests/hosts tests/deploy tests/e2e
.DEFAULT_GOAL := help
.PHONY: help run test test-python test-js test-load load test-postgres test-faults faults operations image lint types format pictures bench bench-quick venv clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: .venv/.installed var/secret-key ## run everything on this machine until Ctrl-C (PORT=8000)
	@if [ -z "$$DJANGO_SECRET_KEY$$DJANGO_SECRET_KEY_FILE" ]; then export DJANGO_SECRET_KEY_FILE=var/secret-key; fi; \
	exec $(BIN)/python manage.py demo --port $(PORT)

# Style, types and JavaScript take a minute beside the Python tests; what measures comes after, alone.
test: .venv/.installed-dev node_modules/.installed ## lint, types, JavaScript, Python and browser tests, the short forms of load and faults
	@mkdir -p var
	@$(MAKE) --no-print-directory lint types test-js >var/test-static.log 2>&1 & static=$$!; \
	$(MAKE) --no-print-directory test-python; status=$$?; \
	wait $$static || status=1; cat var/test-static.log; exit $$status
	@$(MAKE) --no-print-directory test-load
	@$(MAKE) --no-print-directory test-faults

lint: .venv/.installed-dev ## style and mistakes (ruff)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: .venv/.installed-dev ## let ruff format everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: .venv/.installed-dev ## types (mypy --strict)
	$(CHECK_ENV) $(BIN)/mypy

test-python: .venv/.installed-dev node_modules/.installed ## Python and browser tests with coverage
	@sh .ci/chromium
	@$(BIN)/coverage erase
	@# Three groups at once, each with engines of its own: much of the time each of them waits for processes of its own.
	@# Coverage is measured where tests call code: it takes a third of a process's time, and browsers want theirs.
	@mkdir -p var
	@$(BIN)/python -m pytest $(PYTEST_ARGS) $(SCENES) >var/test-scenes.log 2>&1 & scenes=$$!; \
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(BROWSERS) >var/test-browsers.log 2>&1 & browsers=$$!; \
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS) $(patsubst %,--ignore=%,$(BROWSERS) $(SCENES)); status=$$?; \
	wait $$browsers || status=1; cat var/test-browsers.log; \
	wait $$scenes || status=1; cat var/test-scenes.log; exit $$status
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report

test-postgres: .venv/.installed-dev ## the Python tests that touch SQL, on PostgreSQL (its programs, or TEST_DATABASE_URL)
	@# Two halves at once, as above; a database that is given is one, and has them one after the other.
	@mkdir -p var
	@# Without tests/deploy, which brings the database that deploy/hermes.env names.
	@export HERMES_TEST_POSTGRES=1; pytest='$(BIN)/python -m pytest -m not(browser) --ignore=tests/deploy $(PYTEST_ARGS)'; \
	if [ -n "$$TEST_DATABASE_URL" ]; then exec $$pytest; fi; \
	$$pytest $(PROCESSES) >var/postgres-processes.log 2>&1 & processes=$$!; \
	$$pytest $(PROCESSES:%=--ignore=%); status=$$?; \
	wait $$processes || status=1; cat var/postgres-processes.log; exit $$status

# Alone, because they measure.
test-load: .venv/.installed-dev ## a storm, a flood, bad readers, a large room, leaks: the short form
	$(BIN)/python -m pytest -m load $(PYTEST_ARGS) tests/load

load: .venv/.installed-dev ## the same with 10,000 clients, and 100,000 connections in all
	SOAK_CONNECTIONS=100000 STORM_CLIENTS=10000 NEIGHBOUR_ROUNDS=12 FAIR_CLIENTS=10000 LOAD_SECONDS=600 $(BIN)/python -m pytest -m load $(PYTEST_ARGS) tests/load

# Alone and last: it needs the whole machine. Its seed is another one each time, unless SEED names one.
test-faults: .venv/.installed-dev ## the fault suite's short form, of another seed each time (SEED=)
	@mkdir -p var
	$(BIN)/python -m tests.faults --minutes 1.5 --seed "$(SEED)" --report var/faults.md

faults: .venv/.installed-dev ## break everything at random moments and judge what was seen (MINUTES=10 SEED= ONLY= SHIPPED=)
	$(BIN)/python -m tests.faults --minutes $(MINUTES) --seed "$(SEED)" --only "$(ONLY)" $(if $(SHIPPED),--shipped)

# As root. Debian's mirror and the package index are asked; the bare Debian is kept in var/debian.
operations: .venv/.installed-dev ## follow docs/operations.md on a bare Debian (debootstrap), command by command
	OPERATIONS=debian $(BIN)/python -m pytest $(PYTEST_ARGS) tests/deploy/test_newcomer.py

# As root, with buildah and debootstrap. Asks the same two.
image: .venv/.installed-dev ## build the container image from a bare Debian, and run the main job in it
	IMAGE=build $(BIN)/python -m pytest $(PYTEST_ARGS) tests/deploy/test_image.py

test-js: node_modules/.installed ## types and tests of the toolkit
	npm run --silent types
	NODE_OPTIONS=--test-reporter=spec npm test --silent

pictures: .venv/.installed-dev node_modules/.installed ## take the documents' pictures anew (docs/images)
	$(BIN)/pip install -q pillow==13.0.0
	PICTURES=docs/images $(BIN)/python -m pytest -q tests/browser/test_pictures.py tests/browser/test_admin_pages.py
	PICTURES=docs/images $(BIN)/python -m pytest -q tests/browser/test_dead_letters.py -k picture

# Needs two cores for itself. Peers that cannot be installed are named in the table.
bench: .venv/.installed-bench ## Hermes beside its peers, three rounds; takes long (BENCH= more arguments)
	@sh bench/peers/install
	$(BIN)/python -m bench $(BENCH)

bench-quick: .venv/.installed-bench ## the same in three minutes: one short round, fewer sockets
	@sh bench/peers/install
	$(BIN)/python -m bench --quick $(BENCH)

venv: .venv/.installed-dev ## make .venv with everything for development

clean: ## forget what was installed and what the demo kept
	rm -rf .venv node_modules bench/peers/socketio/node_modules var .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hermes needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Cannot make .venv: on Debian, apt-get install python3-venv" >&2; exit 1; }

.venv/.installed: requirements.txt | .venv/bin/python
	@echo "Installing requirements.txt into .venv"
	@$(BIN)/pip install -q -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt bench/requirements.txt | .venv/bin/python
	@echo "Installing requirements-dev.txt into .venv"
	@$(BIN)/pip install -q -r requirements-dev.txt
	@touch $@ .venv/.installed .venv/.installed-bench

.venv/.installed-bench: requirements.txt bench/requirements.txt | .venv/bin/python
	@$(BIN)/pip install -q -r requirements.txt -r bench/requirements.txt
	@touch $@ .venv/.installed

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

var/secret-key:
	@mkdir -p var && umask 077 && $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))' > $@
