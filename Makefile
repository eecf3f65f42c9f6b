# make demo   set up, draw faces, train, report        make test   set up, run every test
SHELL := /bin/bash
PYTHON := .venv/bin/python
DRAWN := data/synthetic/LaPa
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast coverage lint format dashboard docs bench clean

help: ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 11

setup: .venv/installed ## virtual environment with the exact versions of requirements.lock

.venv/installed: requirements.lock
	@test -x $(PYTHON) || python3 -m venv .venv
	@test -x .venv/bin/uv || $(PYTHON) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --quiet --compile-bytecode --python $(PYTHON) --requirement requirements.lock
	@touch $@

demo: setup ## draw faces, train MTL and its baseline on them, write outputs/report/index.html (minutes)
	$(PYTHON) prepare.py task=synthetic_faces layout=lapa count=700 size=128 seed=0 out=$(DRAWN)
	$(PYTHON) train.py experiment=mtl_lapa_1pct scale=demo datamodule.root=$(DRAWN)
	$(PYTHON) train.py experiment=baseline_lapa_1pct scale=demo datamodule.root=$(DRAWN)
	$(PYTHON) report.py

test: setup ## every test, in two processes of one thread each (five minutes on two cores)
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal

test-fast: setup ## the tests that train nothing and start no process (a minute)
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal -m "not training and not process"

coverage: setup ## every test, and which lines and branches they reach, processes included
	$(PYTHON) -m coverage run --rcfile=$(CURDIR)/pyproject.toml -m pytest --numprocesses 2 --dist worksteal
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --precision 2 --skip-covered --sort cover

lint: setup ## ruff and mypy over everything
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: setup ## let ruff put the code in shape
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

dashboard: setup ## the report on http://127.0.0.1:8321, written again while runs go on
	$(PYTHON) report.py view=dashboard

docs: setup ## docs/settings.md and the YAML files of defaults, from the settings
	$(PYTHON) -m stages.document

bench: setup ## what is claimed about speed, measured
	@for file in benchmarks/*.py; do name=$$(basename $$file .py); echo "== $$name"; $(PYTHON) -m benchmarks.$$name || exit 1; done

clean: ## remove the virtual environment and caches; runs and data stay
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
