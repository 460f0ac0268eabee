# make run, make test and the rest; `make help` lists them. Everything lives in .venv.

PYTHON ?= python3.11
# Where to take torch from, for example PyTorch's index of CPU wheels; empty: pip's own settings.
TORCH_INDEX ?=
# The texts that a model is made of: a CSV with the columns text and label (or tweet and class).
DATA ?=
CHECKPOINT ?= build/checkpoint

# What builds and runs containers, and from which model: any directory that models.export wrote.
ENGINE ?= $(or $(shell command -v docker),$(shell command -v podman))
MODEL ?= models/default
BASE ?= python:3.11-slim-bookworm
EVENT ?= tests/events/http_api_v2.json

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
HASHED := --require-hashes --no-deps
UV_COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 \
	--python-platform x86_64-unknown-linux-gnu --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' --upgrade

# Times in an image are this one, so that the same inputs give the same layers.
export SOURCE_DATE_EPOCH ?= 0
BUILD := $(ENGINE) build --build-arg MODEL=$(MODEL) --build-arg BASE=$(BASE) \
	$(if $(findstring podman,$(ENGINE)),--format docker --timestamp $(SOURCE_DATE_EPOCH),--build-arg SOURCE_DATE_EPOCH)
SAM := $(or $(shell command -v sam),.venv-sam/bin/sam)
# The emulator asks no cloud for anything: dummy credentials, no telemetry, no look-up of who calls.
SAM_LOCAL := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=local \
	AWS_SECRET_ACCESS_KEY=local AWS_ENDPOINT_URL_STS=http://127.0.0.1:1 AWS_MAX_ATTEMPTS=1 $(SAM) local


.PHONY: help run dev test lint format data model bench lock clean image-cloudrun image-lambda \
	cloudrun-local lambda-local lambda-invoke test-containers engine
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

run: .venv/serving.ok ## Serve on PORT (8080) as Cloud Run's container does
	@exec $(BIN)/python -m handlers.serve

dev: .venv/dev.ok ## Install what training, export and tests need (torch, transformers, …)

test: .venv/dev.ok ## Run the tests (needs no cloud and no container engine)
	$(BIN)/python -m pytest --ignore tests/containers

test-containers: .venv/dev.ok ## Run the tests of both images (skipped where there is no engine)
	ENGINE="$(ENGINE)" $(BIN)/python -m pytest tests/containers

image-cloudrun: engine ## Build Cloud Run's image, with MODEL=models/default
	$(BUILD) --file Dockerfile.cloudrun --tag classifier-cloudrun .

image-lambda: engine ## Build Lambda's image, with MODEL=models/default
	$(BUILD) --file Dockerfile.lambda --tag classifier-lambda .

cloudrun-local: image-cloudrun ## Run Cloud Run's image on PORT (8080) as Cloud Run runs it
	@ENGINE="$(ENGINE)" deploy/run_local.sh classifier-cloudrun

lambda-local: image-lambda $(SAM) ## Run Lambda's image behind a local API, on port 3000
	$(SAM_LOCAL) start-api --template deploy/template.yaml --skip-pull-image

lambda-invoke: image-lambda $(SAM) ## Invoke Lambda's image once with EVENT=tests/events/….json
	$(SAM_LOCAL) invoke Classifier --template deploy/template.yaml --skip-pull-image --event $(EVENT)

lint: .venv/dev.ok ## Check style, types and scripts
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run deploy/*.sh

format: .venv/dev.ok ## Put the code into the project's style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

data:
	@test -r "$(DATA)" || { echo "say which texts: make model DATA=FILE.csv" >&2; exit 2; }

model: data .venv/dev.ok ## Train, export and evaluate the default model on DATA=FILE.csv
	$(BIN)/python -m models.train --data "$(DATA)" --output $(CHECKPOINT) $(TRAIN)
	$(BIN)/python -m models.export $(CHECKPOINT) models/default $(EXPORT)
	$(BIN)/python -m models.evaluate models/default --checkpoint $(CHECKPOINT) --data "$(DATA)" \
		--plots docs/default-model --write-card models/default_notes.md

TRAIN ?= --base-name all-MiniLM-L6-v2 --class-weight hate_speech=1.5
EXPORT ?= --name hate-offensive-minilm --version 1.0.0 --max-tokens 256 \
	--base-model all-MiniLM-L6-v2=Apache-2.0 --data "Davidson et al. 2017=MIT"

bench: .venv/dev.ok ## Measure cold start and load beside the plain designs
	$(BIN)/python -m benchmarks.cold_start && $(BIN)/python -m benchmarks.waterfall
	$(BIN)/python -m benchmarks.load

lock: .venv/dev.ok ## Resolve requirements/*.in anew
	for set in serving cloudrun lambda cli; do $(UV_COMPILE) --generate-hashes \
		--override requirements/overrides.txt requirements/$$set.in -o requirements/$$set.txt || exit 1; done
	$(UV_COMPILE) --override requirements/overrides-dev.txt requirements/dev.in -o requirements/dev.txt

clean: ## Remove the environment and everything that was built
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

engine:
	@test -n "$(ENGINE)" || { echo "a container engine is needed: install docker or podman, or say ENGINE=…" >&2; exit 1; }

.venv-sam/bin/sam:
	@echo "installing the SAM CLI into .venv-sam (once) …"
	@$(PYTHON) -m venv .venv-sam && .venv-sam/bin/pip --disable-pip-version-check --quiet install -r requirements/sam.txt

.venv/created.ok:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c '' || { echo "Python 3.11 is needed: install it, or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv && touch $@

.venv/serving.ok: .venv/created.ok requirements/serving.txt requirements/cloudrun.txt requirements/cli.txt
	@echo "installing what serving needs into .venv (once) …"
	@$(PIP) $(HASHED) $(foreach set,serving cloudrun cli,-r requirements/$(set).txt) && touch $@

.venv/dev.ok: .venv/serving.ok requirements/lambda.txt requirements/dev.txt requirements/torch.txt
	@echo "installing what tests and training need into .venv (once) …"
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements/torch.txt && $(PIP) $(HASHED) -r requirements/lambda.txt
	@$(PIP) --no-deps -r requirements/dev.txt && touch $@
