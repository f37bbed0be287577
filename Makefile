# What a clone needs to be built, run, tested and measured; `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As many tests at a time as there are cores: half of what they do is to wait.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal
SOURCES := pyproject.toml setup.py $(wildcard src/bunpy/_speedups/*.pyx src/bunpy/_speedups/*.pxd)
ARGS ?=
JOBS ?= auto
COUNT ?= 1000000
SEED ?= 1
FUZZ := build/fuzz
SANITISE := -fsanitize=address,undefined
# What the sanitisers' libraries must be told: they come before an interpreter that knows nothing of them.
SANITISED = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=16 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	PYTHONHASHSEED=0 PYTHONPATH="$(CURDIR)/$(FUZZ)/site:$(CURDIR)/tests" BUNPY_PURE=
MINUTES ?= 10

help:
	@echo "make run            the live demo on http://localhost:3000"
	@echo "make test           the whole suite, with the extension and without (ARGS=... goes to pytest, JOBS=0: one after the other)"
	@echo "make lint           ruff, cython-lint and mypy --strict"
	@echo "make bench          the benchmarks; results in bench/results"
	@echo "make bench-compare  the benchmarks against this machine's stored result: fails on a 15 % loss"
	@echo "make endurance      thousands of clients, slow ones, hostile ones, the end of the process (as root, with iproute2)"
	@echo "make soak           everything at once for ten minutes (MINUTES=60)"
	@echo "make fuzz           requests and events by the million, the extension built with sanitisers (COUNT=, SEED=; gcc)"
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
	BUNPY_PURE=1 $(PYTEST) $(ARGS)
	BUNPY_PURE= $(PYTEST) $(ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint --max-line-length 120 src/bunpy/_speedups
	$(BIN)/mypy

bench: $(VENV)/test
	$(BIN)/python -m bench $(ARGS)

bench-compare: $(VENV)/test
	$(BIN)/python -m bench --compare $(ARGS)

endurance: $(VENV)/test
	$(BIN)/python -m bench.endurance $(ARGS)

soak: $(VENV)/test
	$(BIN)/python -m bench.endurance soak --minutes $(MINUTES) $(ARGS)

# The sources are copied, so that no sanitised object is left where an ordinary build would find it.
fuzz: $(VENV)/test
	rm -rf $(FUZZ)/source $(FUZZ)/site
	mkdir -p $(FUZZ)/source
	cp -r setup.py pyproject.toml MANIFEST.in README.md LICENSE src $(FUZZ)/source
	rm -f $(FUZZ)/source/src/bunpy/_speedups/*.so
	CC=gcc CFLAGS="$(SANITISE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1" LDFLAGS="$(SANITISE)" \
		BUNPY_EXT=require BUNPY_PURE= $(BIN)/python -m pip install --quiet --no-deps --target $(FUZZ)/site $(FUZZ)/source
	$(SANITISED) $(BIN)/python -m fuzz.events --count $(COUNT) --seed $(SEED)
	$(SANITISED) $(BIN)/python -m fuzz.requests --count $(COUNT) --seed $(SEED)

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/bunpy/_speedups/*.so

.PHONY: help run test lint bench bench-compare endurance soak fuzz clean
