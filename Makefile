# make demo     the whole loop on the embedded world
# make test     the tests
# make verify   what CI runs: format, lint, types, tests, compilation, manifests
# make images   what the steps run in on a cluster; make test-images runs the loop in them

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TYPED := build/types

.PHONY: demo test verify setup format check-format lint types compile manifests images test-images clean

demo: setup
	$(BIN)/attrloop demo $(ARGS)

test: setup
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile --no-loadscope-reorder $(ARGS)

verify: check-format lint types test compile manifests

setup: $(STAMP)

# Installed again when what is installed has changed; an editable install sees changes of the code by itself.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check-format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/hadolint images/*/Containerfile

# mypy finds modules by folder, so it gets a tree in which the packages lie as they are installed.
types: setup
	mkdir -p $(TYPED)/attrloop
	ln -sfn ../../../components $(TYPED)/attrloop/components
	ln -sfn ../../../pipelines $(TYPED)/attrloop/pipelines
	ln -sfn ../../manifests $(TYPED)/manifests
	cd $(TYPED) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --explicit-package-bases --namespace-packages attrloop manifests

compile: setup
	$(BIN)/attrloop compile -o build/attribute-loop.yaml

# Builds and checks the overlays, offline. Before applying: make manifests ARGS=--deployable
manifests: setup
	$(BIN)/python -m manifests.check $(ARGS)

# Needs docker. E.g. make images ARGS="--registry europe-docker.pkg.dev/PROJECT/attrloop"
images: setup
	$(BIN)/python -m images.build $(ARGS)

test-images: setup
	$(BIN)/python -m images.build worker trainer $(ARGS)
	set -a && . build/images.env && $(BIN)/python -m pytest tests/acceptance/test_containers.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
