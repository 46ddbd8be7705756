# make demo      the whole loop on the embedded world
# make test      the tests that one runs while working; make test-all adds the slow ones
# make verify    what CI runs: format, lint, types, all tests, compilation, manifests, documentation
# make images    what the steps run in on a cluster; make test-images runs the loop in them

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile

LABEL_STUDIO := $(VENV)/label-studio

.PHONY: demo test test-all verify setup format check-format lint types compile manifests docs images test-images clean label-studio

demo: setup
	$(BIN)/attrloop demo $(ARGS)

test: setup
	$(PYTEST) -m "not slow" $(ARGS)

# The slow end-to-end tests are the first by name: begun first, they end with the others.
test-all: setup
	$(PYTEST) --no-loadscope-reorder $(ARGS)

verify: check-format lint types label-studio test-all compile manifests docs

setup: $(STAMP)

# Runs again when the dependencies have changed; an editable install sees changes of the code by itself.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# A real Label Studio for the tests of `attrloop review`, which skip without it. Its dependencies do not fit ours.
label-studio: setup $(LABEL_STUDIO)/bin/label-studio

$(LABEL_STUDIO)/bin/label-studio:
	$(PYTHON) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip install --quiet --disable-pip-version-check label-studio==1.23.2

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check-format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/hadolint images/*/Containerfile

# mypy checks types, basedpyright that an editor finds every import.
types: setup
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

compile: setup
	$(BIN)/attrloop compile -o build/attribute-loop.yaml

# Builds and checks the overlays, offline. Before applying: make manifests ARGS=--deployable
manifests: setup
	$(BIN)/python -m manifests.check $(ARGS)

docs: setup
	$(BIN)/mkdocs build --strict

# Needs docker. E.g. make images ARGS="--registry europe-docker.pkg.dev/PROJECT/attrloop"
images: setup
	$(BIN)/python -m images.build $(ARGS)

test-images: setup
	$(BIN)/python -m images.build worker trainer $(ARGS)
	TEST_IMAGES=build/images.env $(BIN)/python -m pytest tests/acceptance/test_containers.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
