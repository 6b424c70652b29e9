# Everything below makes .venv first if it is not there or out of date (scripts/setup says what it needs).
#   make setup PYTHON=python3.12     chooses the interpreter
.DELETE_ON_ERROR:
.PHONY: help setup claims demo test quick chaos sim soak fuzz check format proto proto-check breaking lock wheel-test clean
.DEFAULT_GOAL := help

export PYTHON
bin := .venv/bin

help:
	@echo "make demo        the main job on real claims: 4 insurers, 1 supervisor, one outage, one forgery"
	@echo "make chaos       three minutes of faults from outside on a network of real daemons"
	@echo "make test        all tests"
	@echo "make quick       tests without daemons"
	@echo "make fuzz        decoders, core and validator on inputs that coverage guides; FUZZ_RUNS=1000000 goes on longer"
	@echo "make check       lint, format, types, import rules, generated code"
	@echo "make format      let ruff format and fix"
	@echo "make proto       generate proto/lossbook/v1 from its .proto files"
	@echo "make sim         210 networks attacked in virtual time, each twice"
	@echo "make soak        the same until stopped, on all cores; FROM=SEED goes on"
	@echo "make wheel-test  build the wheel, compare what it installs with the source tree, and use it outside the checkout"
	@echo "make lock        resolve requirements*.lock anew (network)"
	@echo "make clean       remove what was made, .venv too"

setup:
	@scripts/setup

# The claims file is in the package chainladder; without its dependencies, which weigh 700 MB.
claims: setup
	@$(bin)/python -m pip --disable-pip-version-check --quiet --no-input install --no-deps --only-binary :all: \
		--require-hashes -r requirements-demo.lock

demo: claims
	@$(bin)/lossbook demo claims

chaos: setup
	@$(bin)/lossbook chaos run --minutes 3

test: claims
	scripts/test

# The same seeds every time, each twice, on networks of 4, 7 and 10; fails if a rule, corner case or liar was never met.
# What fails is minimised, shown, and kept in KEEP, where a test runs it from then on.
SIM_SEEDS ?= 210
KEEP ?= tests/regressions
sim: setup
	$(bin)/lossbook sim soak --from 1 --seeds $(SIM_SEEDS) --brief --coverage-required --keep $(KEEP)

# Until stopped; says with which FROM to go on.
FROM ?= 1000
soak: setup
	$(bin)/lossbook sim soak --from $(FROM) --keep $(KEEP)

quick: setup
	$(bin)/python -m pytest tests -m "not process"

FUZZ_RUNS ?= 100000
fuzz: setup
	$(bin)/python -m tests.fuzz --runs $(FUZZ_RUNS)

check: setup
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	scripts/proto --check
	$(bin)/buf lint

format: setup
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

proto: setup
	scripts/proto

# Against another commit, for example: make breaking AGAINST=v0.1.0
AGAINST ?= HEAD
breaking: setup
	git archive --format=tar $(AGAINST) proto buf.yaml | $(bin)/buf breaking --against '-#format=tar'

lock:
	scripts/lock

wheel-test: setup
	scripts/wheel_test

clean:
	rm -rf .venv dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
