# Two commands show everything: make repro, make test. Only Python from 3.11 on, git, make and, for photographs, npm are assumed.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name $(NEW_ENOUGH) 2>/dev/null && echo $$name && break; done)
PARAMS ?= params.yaml
# Stages, or files of tests, at a time. A stage takes up to 3 GiB in the embedded run.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SYSTEM := libegl1 libgl1 libgl1-mesa-dri libglu1-mesa libfreetype6
# Stages call `python`; it must be the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help system browser setup repro study test check gate bench report lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

system: ## Debian, Ubuntu, as root: install OpenGL without a screen, which draws corridors, and npm, which fetches photographs (again only if missing)
	command -v npm >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends npm; }
	dpkg -s $(SYSTEM) >/dev/null 2>&1 || { apt-get update && apt-get install --yes --no-install-recommends $(SYSTEM); }

browser: ## Debian, Ubuntu, as root: install the browser in which tests open the report (again only if missing)
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends chromium; }

setup: $(STAMP) ## make the environment in .venv (again only when requirements.lock or pyproject.toml change)

$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" $(NEW_ENOUGH) || { echo "no Python from 3.11 on: install one, or say which: make PYTHON=..." >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	if command -v uv >/dev/null; then INSTALL="uv pip install --quiet --python $(BIN)/python"; \
	else INSTALL="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; fi; \
	$$INSTALL --no-deps --require-hashes -r requirements.lock && $$INSTALL --no-deps --no-build-isolation --editable .
	$(BIN)/python -m assay_tools.site_cache
	touch $@

repro: $(STAMP) ## run the pipeline: only what is invalid, JOBS=2 stages at a time (PARAMS=params/full.yaml: the real models)
	@$(BIN)/python -m assay.cli params --use $(PARAMS)
	$(BIN)/python -m assay.cli repro --jobs $(JOBS)

study: $(STAMP) ## hours: three trainings of everything, every family of forgery held out once (docs/study.md); again: goes on
	$(BIN)/python -m assay.cli study --jobs $(JOBS)

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

check: $(STAMP) ## lint, format, types, and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m assay.cli check
	$(BIN)/python -m pytest -q tests/test_house_rules.py

gate: $(STAMP) ## green clone: dvc.lock, metrics and plots belong to the code as committed
	$(BIN)/python -m assay.cli gate

bench: $(STAMP) ## compare with peers; prints ratios (see benchmarks/README.md)
	$(BIN)/python benchmarks/prepare_scale.py
	$(BIN)/python benchmarks/train_throughput.py
	$(BIN)/python benchmarks/cascade_speed.py
	$(BIN)/python benchmarks/leak_bounds.py
	$(BIN)/python benchmarks/text_throughput.py
	$(BIN)/python benchmarks/text_frontier.py
	$(BIN)/python benchmarks/parallel_repro.py
	$(BIN)/python benchmarks/beside_others.py
	$(BIN)/python benchmarks/vlm_scoring.py
	$(BIN)/python benchmarks/calibration_level.py --runs 200
	$(BIN)/python benchmarks/interval_coverage.py --groups 9 --sets 200
	$(BIN)/python benchmarks/vlm_sft_throughput.py
	$(BIN)/python benchmarks/vlm_sft_throughput.py --vocab 151936 --steps 3

report: $(STAMP) ## metrics and plots on one page: report.html
	$(BIN)/python -m assay.cli report

lock: $(STAMP) ## pin what pyproject.toml asks for in requirements.lock: what is pinned stays where it can
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate \
		--generate-hashes --output-file requirements.lock pyproject.toml
	sed -i '1i # Every package pinned, by the hashes of its files, for each system and Python from 3.11 on; make lock writes it anew.' requirements.lock

clean: ## remove what a run makes (the environment and DVC's cache stay)
	rm -rf .assay timings report.html .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
