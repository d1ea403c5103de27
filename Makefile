PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
STAMP := .venv/.installed

.PHONY: setup demo lock test soak lint bench docs site clean

setup: $(STAMP)

# Installs once; again only when what is to be installed changed. PyPI's torch for Linux is built for CUDA and needs its
# libraries, gigabytes; where pip finds a build for the CPU, as it does in PyTorch's own index, it is given that by name.
$(STAMP): pyproject.toml requirements.lock requirements-cuda.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	torch=$$(grep -o '^torch==[0-9.]*' requirements.lock); \
	if $(PIP) install --dry-run --no-deps --ignore-installed $$torch+cpu > /dev/null 2>&1; \
	then sed "s/^$$torch/&+cpu/" requirements.lock; \
	else cat requirements.lock requirements-cuda.lock; fi > .venv/requirements.txt
	$(PIP) install --quiet --no-deps --require-hashes -r .venv/requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Every locked package anew, as new as constraints.txt lets it be, and the page of their licences.
lock: setup
	$(BIN)/python deploy/lock.py
	$(MAKE) setup
	$(BIN)/python deploy/licences.py

demo: setup
	$(BIN)/moe-safety demo

# Two workers, each with a Ray of its own: most of a test's time is waiting for processes to start. All of them would
# compile the library where the environment says that bytecode is not to be written.
test soak: export PYTHONDONTWRITEBYTECODE =

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

site: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . site

bench: setup
	for file in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python -m benchmarks.job --runs 1

clean:
	rm -rf .venv runs site
