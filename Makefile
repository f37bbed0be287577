# What a clone needs to be built, run, tested and measured; `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard src/bunpy/_speedups/*.pyx src/bunpy/_speedups/*.pxd)
ARGS ?=

help:
	@echo "make run            the live demo on http://localhost:3000"
	@echo "make test           the whole suite, with the extension and without (ARGS=... goes to pytest)"
	@echo "make lint           ruff, cython-lint and mypy --strict"
	@echo "make bench          the benchmarks; results in bench/results"
	@echo "make bench-compare  the benchmarks against this machine's stored result: fails on a 15 % loss"
	@echo "make clean          remove what was built"

# The package in place, its extension built if there is a C compiler (BUNPY_EXT=require: or fail).
$(VENV)/run: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/node eventsource; fi
	touch $@

run: $(VENV)/run
	$(BIN)/python -m bunpy.demo

test: $(VENV)/test
	BUNPY_PURE=1 $(BIN)/python -m pytest $(ARGS)
	BUNPY_PURE= $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint --max-line-length 120 src/bunpy/_speedups
	$(BIN)/mypy

bench: $(VENV)/test
	$(BIN)/python -m bench $(ARGS)

bench-compare: $(VENV)/test
	$(BIN)/python -m bench --compare $(ARGS)

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/bunpy/_speedups/*.so

.PHONY: help run test lint bench bench-compare clean
