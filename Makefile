# Everything needs a Python 3.11 or newer and nothing else; `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run test faults sync replay clients screenshots bench lint format docs lock pin-images sbom audit clean \
	install-run install-dev

BIN := .venv/bin
DATA_DIR ?= .data
CODE := services shared ops devstack bench deploy tests
SIGTERM := 15
# Each of the many processes would compile the code anew.
unexport PYTHONDONTWRITEBYTECODE
COMPILED := .venv/compiled-tests

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run SYNCERS=2 SUMMARIZERS=3 API_WORKERS=2 PORT=8080 DATA_DIR=/tmp/leads GROQ=stand-in"

# make passes variables on the command line to the environment. The stack ends when make itself
# is killed.
run: install-run ## Run everything: servers, stand-ins for what is not configured, services
	@exec $(BIN)/python -I -S devstack/parent_death.py $$PPID $(SIGTERM) - - $(BIN)/python -m devstack

# In the order of the folders, so that the long files come first and the short ones fill the end.
# More at a time than there are cores, as a test often waits for servers and processes.
# The faults come by themselves: they measure what a loaded machine would blur, and three at a time
# are what two cores take.
test: $(COMPILED) ## Run the tests, against servers and services started for them
	$(BIN)/python -m pytest -q -n 6 --no-loadscope-reorder -m "not long" --ignore tests/faults
	$(BIN)/python -m pytest -q -n 3 --no-loadscope-reorder -m "not long" tests/faults

# The tests, compiled: else each process of a run does it, all at the same time.
$(COMPILED): $(shell find tests -name '*.py') | install-dev
	@$(BIN)/python -m pytest -qq --collect-only tests/integration >/dev/null & \
	$(BIN)/python -m pytest -qq --collect-only --ignore tests/integration >/dev/null; wait; touch $@

faults: install-dev ## Keep every promise of docs/reliability.md while things break (FULL=1, SEED=n)
	$(BIN)/python -m pytest -q tests/faults

sync: install-run ## Fetch leads now, with the stack that `make run` runs
	@test -e $(DATA_DIR)/stack.env || { echo "Nothing runs in $(DATA_DIR): make run first"; exit 1; }
	@ENV_FILE=$(DATA_DIR)/stack.env $(BIN)/python -m ops sync

replay: install-run ## Put past events back: make replay ARGS="--from archive --dry-run"
	@test -e $(DATA_DIR)/stack.env || { echo "Nothing runs in $(DATA_DIR): make run first"; exit 1; }
	@ENV_FILE=$(DATA_DIR)/stack.env $(BIN)/python -m ops replay $(ARGS)

clients: install-dev ## Make clients of openapi.json by generators, and try them (needs npm)
	$(BIN)/python -m tests.clients

screenshots: install-dev ## Take the pictures of the console in docs/img anew (needs Chromium)
	SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/integration/api/console/test_screenshots.py

bench: install-dev ## Measure the speed: make bench ARGS="creates --peers" (needs wrk)
	$(BIN)/python -m bench $(ARGS)

MIGRATIONS = $(filter-out %.rollback.sql,$(wildcard migrations/*.sql))
ONLINE = $(shell grep -l "^-- transactional: false" migrations/*.sql)
lint: install-dev ## Check style, types, imports and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/squawk --assume-in-transaction $(filter-out $(ONLINE),$(MIGRATIONS))
	$(BIN)/squawk $(ONLINE)

format: install-dev ## Format the code and sort its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

docs: install-dev ## Write what is made of the code in docs/ anew, and the dashboard
	$(BIN)/python -m services.api.documents docs
	$(BIN)/python -m tests.support.metrics_page
	$(BIN)/python deploy/observability/dashboard.py > dashboard.tmp
	mv dashboard.tmp deploy/observability/dashboard.json

# A company's network may have certificates of its own, which the system knows.
UV_PIP = $(BIN)/uv pip --system-certs
# The lock for tests comes first and binds the others: all may share one .venv.
COMPILE = $(UV_PIP) compile pyproject.toml --universal --generate-hashes \
	--no-emit-index-url --no-header --quiet
COMPILE_GROUP = $(UV_PIP) compile --universal --generate-hashes --no-emit-index-url --no-header \
	--quiet --upgrade --group
lock: ## Write the lock files anew, with the newest versions pyproject.toml allows
	@test -x $(BIN)/uv || sh devstack/install.sh dev
	$(COMPILE) --upgrade --extra dev -o requirements-dev.lock
	$(COMPILE) --upgrade --extra devstack --constraint requirements-dev.lock -o requirements-run.lock
	$(COMPILE) --upgrade --extra tracing --constraint requirements-dev.lock -o requirements.lock
	$(COMPILE_GROUP) audit -o requirements-audit.lock
	$(COMPILE_GROUP) peers -o bench/peers/requirements.lock

pin-images: install-run ## Name all images by their digests, which their registries are asked for
	$(BIN)/python -m deploy.pin_images

sbom: .venv-audit/installed ## Write sbom.json: what the services are made of (CycloneDX)
	@$(BIN)/python -m deploy.supply_chain sbom

audit: .venv-audit/installed ## Look the services' packages up in lists of advisories
	@$(BIN)/python -m deploy.supply_chain audit

# The tools for it bring fifty packages along, so they have an environment of their own.
.venv-audit/installed: requirements-audit.lock
	@sh devstack/install.sh dev
	@rm -rf .venv-audit
	@$(BIN)/uv venv --quiet .venv-audit
	@$(UV_PIP) install --quiet --python .venv-audit --require-hashes -r requirements-audit.lock
	@touch $@

clean: ## Remove the virtual environment and caches, and keep the data in DATA_DIR
	rm -rf .venv .venv-audit .bench-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

install-run:
	@sh devstack/install.sh run

install-dev:
	@sh devstack/install.sh dev
