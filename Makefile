# Two commands show everything: make repro, make test. Only Python 3.11, git and make are assumed.
PYTHON ?= python3.11
PARAMS ?= params.yaml
# Stages at a time. Each takes up to 3 GiB in the embedded run.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SYSTEM := libegl1 libgl1 libgl1-mesa-dri libglu1-mesa libfreetype6
TORCH := torch==2.14.1 torchvision==0.29.1
# Stages call `python`; it must be the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help system browser setup repro test check gate bench report lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

system: ## Debian, Ubuntu, as root: install what draws the corridor scenes, OpenGL without a screen (again only if missing)
	dpkg -s $(SYSTEM) >/dev/null 2>&1 || { apt-get update && apt-get install --yes --no-install-recommends $(SYSTEM); }

browser: ## Debian, Ubuntu, as root: install the browser in which tests open the report (again only if missing)
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends chromium; }

setup: $(STAMP) ## make the environment in .venv (again only when requirements.lock or pyproject.toml change)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or say which: make PYTHON=..." >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

repro: $(STAMP) ## run the pipeline: only what is invalid, JOBS=2 stages at a time (PARAMS=params/full.yaml: the real models)
	@$(BIN)/python -m assay.cli params --use $(PARAMS)
	$(BIN)/python -m assay.cli repro --jobs $(JOBS)

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, types, and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m assay.cli check
	$(BIN)/python -m pytest -q tests/test_house_rules.py

gate: $(STAMP) ## green clone: dvc.lock, metrics and plots belong to the code as committed
	$(BIN)/python -m assay.cli gate

bench: $(STAMP) ## compare with peers; prints ratios (see benchmarks/README.md)
	$(BIN)/python benchmarks/train_throughput.py
	$(BIN)/python benchmarks/cascade_speed.py
	$(BIN)/python benchmarks/text_throughput.py
	$(BIN)/python benchmarks/parallel_repro.py
	$(BIN)/python benchmarks/vlm_scoring.py
	$(BIN)/python benchmarks/vlm_sft_throughput.py
	$(BIN)/python benchmarks/vlm_sft_throughput.py --vocab 151936 --steps 3

report: $(STAMP) ## metrics and plots on one page: report.html
	$(BIN)/python -m assay.cli report

lock: $(STAMP) ## resolve pyproject.toml anew into requirements.lock
	mkdir -p .assay
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report .assay/lock.json ".[dev]" $(TORCH)
	$(BIN)/python -c 'import json; rows = sorted("{name}=={version}".format(**i["metadata"]) for i in json.load(open(".assay/lock.json"))["install"] if i["metadata"]["name"] != "assay"); open("requirements.lock", "w").write("# Every package pinned: Linux x86-64, Python 3.11. make lock writes it anew from pyproject.toml.\n" + "\n".join(rows) + "\n")'

clean: ## remove what a run makes (the environment and DVC's cache stay)
	rm -rf .assay timings report.html .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
