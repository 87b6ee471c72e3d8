# The commands of the README. Needs Python 3.11 to 3.13 and make.
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := .venv/.installed
DEV := .venv/.installed-dev
# Each of two workers takes a file at a time: the longest go first, so that both end at about the same time.
LONGEST_FIRST := tests/journeys $(filter-out tests/journeys/,$(wildcard tests/[a-z]*/ tests/test_*.py))
# The tests start hundreds of processes; without compiled modules each takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
EVERLOOP_SECURED ?= .secured
TRAINERS ?= $(CURDIR)/.trainers
IMAGES := ingest feature training registry serving monitoring acls operator
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test chaos trainers integrations lint bench lock schemas sbom passwords secure up down clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Everloop needs Python 3.11, 3.12 or 3.13; none was found on the PATH"; exit 1; }
	@echo "Making a virtual environment with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv

# pip checks every package against the lock's hashes; the project itself is installed in place.
$(RUN): deploy/requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Everloop (about a minute the first time) ..."
	@$(PIP) --require-hashes -r deploy/requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): deploy/requirements-dev.lock $(RUN)
	@echo "Installing what the tests need ..."
	@$(PIP) --require-hashes -r deploy/requirements-dev.lock
	@touch $@

demo: $(RUN)  ## Watch a loop close by itself, on real Kafka and real data
	@$(BIN)/everloop demo $(ARGS)

test: $(DEV)  ## Run all tests, also those on real Kafka
	@$(BIN)/everloop kafka fetch
	@$(BIN)/python -m pytest -q -m "not (kafka or process or journey or chaos or compose or trainers or integrations or kubernetes)" $(ARGS)
	@$(BIN)/python -m pytest -q -n 2 --no-loadscope-reorder -m "kafka or process or journey" --durations=10 $(LONGEST_FIRST) $(ARGS)

chaos: $(DEV)  ## Inject faults into a running installation, and prove that nothing is lost (ARGS="--minutes 10 --seed 3")
	@$(BIN)/everloop kafka fetch
	@$(BIN)/python -m tests.chaos $(ARGS)

trainers: $(DEV)  ## Install PyTorch and TensorFlow beside, and let networks that they train win a loop (2.5 GB, minutes)
	@$(BIN)/everloop kafka fetch
	@deploy/trainers/pytorch/install.sh $(TRAINERS)/pytorch
	@deploy/trainers/tensorflow/install.sh $(TRAINERS)/tensorflow
	@EVERLOOP_TRAINERS=$(TRAINERS) $(BIN)/python -m pytest -q -n 0 -m trainers tests/trainers $(ARGS)

integrations: $(DEV)  ## Test against systems with environments of their own (Ray, Spark, Kubernetes, Airflow, ...), and say what was skipped (minutes)
	@$(BIN)/everloop kafka fetch
	@$(BIN)/python -m tests.integrations $(ARGS)

bench: $(DEV)  ## Measure it beside the bare libraries (half an hour; ARGS=--quick only proves that it runs)
	@$(BIN)/everloop kafka fetch
	@$(BIN)/python -m tests.bench $(ARGS)

lint: $(DEV)  ## Check style, types, imports between packages, and that schemas/json and the Helm chart are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m everloop_schemas.generate --check
	$(BIN)/python -m tests.serving.protocol --check
	$(BIN)/python deploy/helm/generate.py --check

schemas: $(DEV)  ## Generate schemas/json and the CRD from the classes, schemas/openapi from the routes, the messages of gRPC from their .proto files, what the Helm chart has of the project
	$(BIN)/python -m everloop_schemas.generate
	$(BIN)/python -m tests.everloop_shared.openapi_documents
	$(BIN)/python -m tests.serving.protocol
	PYTHONPATH=deploy/operator $(BIN)/python -m everloop_operator.crd > deploy/helm/everloop/crds/loops.everloop.io.yaml
	$(BIN)/python deploy/helm/generate.py

lock: $(DEV)  ## Resolve the dependencies again
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra local --extra postgresql --extra otel --group pyproject.toml:build pyproject.toml -o deploy/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra all --group pyproject.toml:build --group pyproject.toml:dev pyproject.toml -c deploy/requirements.lock -o deploy/requirements-dev.lock
	@mkdir -p deploy/requirements
	for group in build $(IMAGES); do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	    --group pyproject.toml:$$group -c deploy/requirements-dev.lock -o deploy/requirements/$$group.lock || exit 1; done

# The passwords of the databases are made here, once; environment variables of those names override the file.
.env:
	@test -n "$$EVERLOOP_POSTGRES_PASSWORD" || { umask 077; \
	  printf 'EVERLOOP_POSTGRES_PASSWORD=%s\n' "$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" > .env; }

passwords: .env  # that of the keys of personal fields is newer than many a .env
	@test -n "$$EVERLOOP_PERSONAL_KEYS_PASSWORD" || grep -qs '^EVERLOOP_PERSONAL_KEYS_PASSWORD=' .env || { umask 077; \
	  printf 'EVERLOOP_PERSONAL_KEYS_PASSWORD=%s\n' "$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >> .env; }

# Where COMPOSE_FILE is not set, .env names both files from now on: `docker compose up` is the secured installation.
secure: passwords $(RUN)  ## Make certificates, keys and passwords for containers, once, and renew what is due (ARGS="--host everloop.example")
	@$(BIN)/everloop secure $(EVERLOOP_SECURED) $(ARGS)
	@test -n "$$COMPOSE_FILE" || grep -qs '^COMPOSE_FILE=' .env || { umask 077; \
	  printf 'COMPOSE_FILE=docker-compose.yml:deploy/secure/compose.yml\nEVERLOOP_SECURED=%s\n' $(abspath $(EVERLOOP_SECURED)) >> .env; \
	  deploy/images.sh >> .env; }
	@env $$(deploy/images.sh) docker compose build --quiet files
	@$(BIN)/everloop secure $(EVERLOOP_SECURED) --tar | env $$(deploy/images.sh) docker compose run --rm --no-deps -T files

up: passwords $(if $(SECURE),secure)  ## Build and start everything in containers, and wait until it is healthy (SECURE=1: secured)
	env $$(deploy/images.sh) docker compose up --build --detach --wait --wait-timeout 300

sbom: $(DEV)  ## List the Python packages of each image as CycloneDX, in the folder sbom
	@mkdir -p sbom
	@for image in $(IMAGES); do PYTHONWARNINGS=ignore \
	  $(BIN)/cyclonedx-py requirements deploy/requirements/$$image.lock --pyproject pyproject.toml --output-reproducible \
	    --validate -o sbom/$$image.cdx.json || exit 1; done

down:  ## Stop the containers; their volumes stay
	docker compose --profile "*" down

clean:  ## Remove the virtual environment and the data folder .everloop
	rm -rf .venv .everloop
