PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test soak lint bench docs clean

setup: $(STAMP)

# Installs once; again only when what is to be installed changed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/moe-safety demo

# Two workers, each with a Ray of its own: most of a test's time is waiting for processes to start.
test: setup
	$(BIN)/pytest -m 'not soak' -n 2 --dist loadfile --no-loadscope-reorder

soak: setup
	$(BIN)/pytest -m soak --timeout 3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python docs/generate.py

bench: setup
	for file in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python -m benchmarks.job --runs 1

clean:
	rm -rf .venv runs
