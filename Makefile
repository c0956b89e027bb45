# Every target works as the first command typed in a fresh clone, without root.
# Needed on the machine: make, Python 3.11 or newer with venv, and once a network. `make test` brings
# the Debian packages that tests need, as root or with a sudo that asks nothing; see .ci/packages.
#
#   make install EXTRAS=cuda    also installs an extra of pyproject.toml (cuda, cuda12, tpu, ...)
#   make install PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
LOG := $(VENV)/install.log
STAMP := $(VENV)/.installed$(if $(EXTRAS),-$(EXTRAS))
PYTEST_OPTIONS ?= -n 2 --dist worksteal

.PHONY: help install quickstart test soak data bench clean

help:
	@echo "make quickstart  run the first study (two to three minutes) and write its report"
	@echo "make install     build .venv with the pinned versions, nothing else"
	@echo "make test        lint, import contracts, types, all tests"
	@echo "make soak        the long checks: kill storms, a permutation of 30 million"
	@echo "make data        fetch Fashion-MNIST and the default text into your cache, without root"
	@echo "make bench       measure the engine against what one would otherwise do"
	@echo "make clean       remove .venv and caches; never runs/"

install: $(STAMP)

quickstart: install
	@$(BIN)/batchscale run quickstart

test: install
	@PYTHON=$(BIN)/python .ci/packages
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS)

soak: install
	@$(BIN)/python -m benchmarks.soak

data: install
	@$(BIN)/python -m workloads.datasets.fetch

bench: install
	@$(BIN)/python -m benchmarks.study_speed

clean:
	@rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis \
	  .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is brought up to date only when one of these two files has changed. A failed or
# interrupted installation leaves no stamp, so the next `make` takes it up again.
$(STAMP): requirements.txt pyproject.toml
	@stop() { echo "error: $$1" >&2; exit 1; }; \
	recent='import sys; sys.exit(sys.version_info < (3, 11))'; \
	python=; found=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
	  $$candidate -c "$$recent" >/dev/null 2>&1 || continue; \
	  found=$$candidate; \
	  if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	test -n "$$found" || stop "Python 3.11 or newer is missing (install it, or name one: make install PYTHON=...)"; \
	test -n "$$python" || stop "venv for $$found is missing (on Debian and Ubuntu: sudo apt-get install python3-venv)"; \
	if ! { $(BIN)/python -c "$$recent" && $(BIN)/python -m pip --version; } >/dev/null 2>&1; then \
	  $$python -m venv --clear $(VENV) || stop "$$python -m venv $(VENV) failed"; \
	fi; \
	echo "Installing the pinned packages into $(VENV): one to three minutes, 1.6 GB ..."; \
	pip="$(BIN)/python -m pip install --disable-pip-version-check --no-input --retries 2"; \
	if ! { $$pip -r requirements.txt \
	    && $$pip --no-deps --no-build-isolation --editable . \
	    $(if $(EXTRAS),&& $$pip -c requirements.txt "batchscale[$(EXTRAS)] @ file://$(CURDIR)"); \
	  } >$(LOG) 2>&1; then \
	  if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Network is unreachable' $(LOG); \
	  then stop "no package index can be reached: a network is needed once, to install (log: $(LOG))"; \
	  else stop "pip failed: $$(grep -i error $(LOG) | tail -n 1) (log: $(LOG))"; fi; \
	fi; \
	touch $@
