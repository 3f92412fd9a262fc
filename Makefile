# Executable Papers. Everything happens in .venv, which the first command sets up.
SCALE ?= laptop
SEED ?= 0
SEEDS ?= 0 1 2
PROFILE ?= laptop
PARAMETERS ?=
CHAPTER ?=
CLAIMS ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
RUN = $(PY) book/_run/run.py --scale "$(SCALE)" --profile "$(PROFILE)" --parameters "$(PARAMETERS)"
# What is right in a cell and wrong in a module: late imports, a last line that shows itself, a counter
IN_CELLS = B007,B018,E402,E501,E703
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
# Threads of XLA in a process. Two processes with one thread each do nearly twice what one with two does.
export NPROC ?= 1
# Many containers forbid Python to keep what it compiles; each process would compile all it imports
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: book test chapter sweep render bench lab student instructor record times reference lock lint format clean help

book: .venv/.done ## run every chapter (SCALE=smoke|laptop|paper) and render _build/html/index.html
	@$(RUN)
	@$(PY) book/_run/render.py --scale "$(SCALE)"

test: .venv/.done ## check the kernels, every verdict and every page
	@$(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

chapter: .venv/.done ## run one chapter and print its claims: CHAPTER=fedavg [SCALE= SEED= PARAMETERS="name=value"]
	@test "$(origin SEEDS)" != "command line" || { echo "make chapter takes one SEED; several SEEDS are for make sweep" >&2; exit 2; }
	@$(RUN) --chapters "$(CHAPTER)" --seeds "$(SEED)" --show

sweep: .venv/.done ## run a chapter over SEEDS="0 1 2" and PARAMETERS="name=a,b", here or on a cluster (PROFILE=slurm)
	@$(RUN) --chapters "$(CHAPTER)" --seeds "$(SEEDS)" --show

bench: .venv/.done ## time the kernels against their peers, side by side
	@for bench in benchmarks/bench_*.py; do $(PY) $$bench || exit 1; done

lab: .venv/.done ## open the chapters in JupyterLab
	@$(PY) -m uv pip install -q --python .venv jupyterlab ipywidgets
	@.venv/bin/jupytext-config --settings-file .venv/etc/jupyter/labconfig/default_setting_overrides.json set-default-viewer markdown >/dev/null
	@cd book && ../$(PY) -m jupyterlab

student: .venv/.done ## notebooks without solutions: _build/student/ and student.zip
	@$(PY) book/_run/hand_out.py student

instructor: .venv/.done ## notebooks with solutions: _build/instructor/ and instructor.zip
	@$(PY) book/_run/hand_out.py instructor

record: SCALE = paper
record: .venv/.done ## run at paper scale and keep the result in book/recorded/: CHAPTER= [SCALE= PARAMETERS= CLAIMS="C1 C2"]
	@$(RUN) --chapters "$(CHAPTER)" --seeds "$(SEED)" --show
	@$(PY) book/_run/record.py --chapter "$(CHAPTER)" --scale "$(SCALE)" --seed "$(SEED)" --parameters "$(PARAMETERS)" --claims "$(CLAIMS)"

times: .venv/.done ## keep the run times of the notebooks that are here in book/recorded/times.json
	@$(PY) book/_run/record.py

reference: .venv/.done ## pin the verdicts of a chapter's smoke run: CHAPTER=
	@$(PY) book/_run/run.py --scale smoke --chapters "$(CHAPTER)" --show
	@$(PY) book/_run/reference.py "$(CHAPTER)"

lock: .venv/.done ## renew requirements.txt from requirements.in
	@$(PY) -m uv pip compile -q --universal --python-version 3.11 --no-header --upgrade requirements.in -o requirements.txt

lint: .venv/.done ## ruff over modules and chapter cells
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@for page in $$(grep -l code-cell book/*.md); do \
	  $(PY) -m jupytext -q --to py:percent -o - $$page \
	  | $(PY) -m ruff check --ignore $(IN_CELLS) --stdin-filename $$page.py - || exit 1; done

format: .venv/.done ## put modules and chapter cells in order
	@$(PY) -m ruff check --fix-only -q .
	@$(PY) -m ruff format -q .
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m jupytext -q --pipe 'ruff format --line-length 88 --stdin-filename x.ipynb -' --pipe-fmt ipynb $$(grep -l code-cell book/*.md)

clean: ## remove everything that make has made, but for environments and the compilation cache
	rm -rf _build _executed .snakemake
	@if [ -d .cache ]; then find .cache -mindepth 1 -maxdepth 1 ! -name jax -exec rm -rf {} +; fi

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/.done: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python3.11"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: say make PYTHON=/path/to/python3.11"; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo "Python's venv is missing: on Debian and Ubuntu, apt install python3-venv"; exit 2; }
	@echo "setting up .venv (once)"
	@"$(PYTHON)" -m venv .venv
	@$(PY) -m pip install -q --disable-pip-version-check uv
	@$(PY) -m uv pip install -q --python .venv -r requirements.txt
	@$(PY) -m uv pip install -q --python .venv --no-deps -e .
	@touch $@
