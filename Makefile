# make demo   install, render faces, train, report        make test   install, run every test
SHELL := /bin/bash
PYTHON := .venv/bin/python
SYNTHETIC := data/synthetic/LaPa
.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-fast coverage lint format dashboard docs bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 11

setup: .venv/installed ## create the virtual environment with the versions and hashes of requirements.lock

.venv/installed: requirements.lock requirements-uv.lock
	@echo "Installing the locked versions into .venv (a minute)"
	@test -x $(PYTHON) || python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	.venv/bin/uv pip install --quiet --compile-bytecode --python $(PYTHON) --require-hashes --requirement requirements.lock
	@touch $@

lock: setup ## compile requirements.lock, with hashes, from pyproject.toml; versions stay unless UPGRADE=--upgrade
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate $(UPGRADE) \
		--extra dev pyproject.toml --output-file requirements.lock

demo: setup ## few labels in four minutes: three ways to use six labelled synthetic faces, and the report
	@echo "1 of 3: 700 synthetic faces with labels (four seconds)"
	$(PYTHON) prepare.py task=synthetic_faces layout=lapa count=700 size=128 seed=0 out=$(SYNTHETIC)
	@echo "2 of 3: nine networks, two at a time (three minutes on two cores)"
	$(PYTHON) train.py experiment=semi_lapa_1pct scale=demo sweep=demo launcher=joblib logger=none \
		datamodule.root=$(SYNTHETIC)
	@echo "3 of 3: the report"
	$(PYTHON) report.py
	@printf '\nOpen outputs/report/index.html, or run make dashboard. Next, with images of your own:\n%s\n%s\n%s\n' \
		'  .venv/bin/python predict.py input=/path/to/photo.jpg' \
		'  .venv/bin/python train.py experiment=few_labels datamodule.root=/path/to/my_faces' \
		'  docs/your_own_faces.md says what such a folder holds'

test: setup ## run every test in two processes of one thread each (five minutes on two cores)
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal

test-fast: setup ## run the tests without training, processes and a second's work (a minute)
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal -m "not training and not process and not slow"

coverage: setup ## run every test and measure line and branch coverage, child processes included
	$(PYTHON) -m coverage run --rcfile=$(CURDIR)/pyproject.toml -m pytest --numprocesses 2 --dist worksteal
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --precision 2 --skip-covered --sort cover

lint: setup ## run ruff and mypy, and check the words of names and prose (tests/words.py)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m tests.words

format: setup ## format the code and apply automatic fixes with ruff
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

dashboard: setup ## serve the report on http://127.0.0.1:8321, updated while runs are in progress
	$(PYTHON) report.py view=dashboard

docs: setup ## generate docs/settings.md and the YAML files of defaults from the settings
	$(PYTHON) -m stages.document

bench: setup ## run the benchmarks
	@for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); echo "== $$name"; $(PYTHON) -m benchmarks.$$name || exit 1; done

clean: ## remove the virtual environment and caches; runs and data stay
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
