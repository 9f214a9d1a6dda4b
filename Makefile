# make run        set up, then execute every notebook on the full data and refresh images/
# make test       set up, then ruff, the check of the notebook files, unit and browser tests, the site, every notebook in full
# make lab        set up, then open JupyterLab on notebooks/
# make site       build the book from the committed notebooks, into site/_build/html
# make bench      set up, then the benchmark
# make mutants    set up, then break the modules on purpose, again and again, and list what no test notices (hours)
# make elsewhere  all tests again as on other machines: all threads, other rounding, oneDNN's products, oldest versions
# make test-colab all tests and notebooks with Colab's versions of all but torch, in an environment of its own
PYTHON ?= python3
BIN := .venv/bin
BY_TWO := -n 2 --dist loadfile

run: setup
	$(BIN)/python tools/notebooks.py run

test: setup .venv-site/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/notebooks.py check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BY_TWO)

lab: setup
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

site: .venv-site/installed
	.venv-site/bin/python site/build.py

bench: setup
	$(BIN)/python tools/benchmark.py

mutants: setup
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py

elsewhere: setup .venv-site/installed .venv-oldest/installed
	$(BIN)/python -m pytest
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest $(BY_TWO)
	folder=$$(mktemp -d); cp -r tests/onednn/. $$folder; IPYTHONDIR=$$folder $(BIN)/python -m pytest notebooks; said=$$?; rm -r $$folder; exit $$said
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(BY_TWO)

test-colab: setup .venv-site/installed .venv-colab/installed
	.venv-colab/bin/python -m pytest

# The data: data/, FASHION_MNIST_DIR, the Debian package where installed, the internet; last of all that package by apt.
FETCH := $(BIN)/python -c "import storage; storage.fetch_fashion_mnist()"
setup: .venv/installed
	@said=$$($(FETCH) 2>&1) || case "$$said" in \
	  *"the download failed"*) echo "No data here and no download: trying the Debian package dataset-fashion-mnist."; \
	    apt-get update -q && apt-get install -q -y dataset-fashion-mnist; $(FETCH);; \
	  *) echo "$$said"; exit 1;; esac

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

.venv-site/installed: site/pyproject.toml
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --editable ./site
	@touch $@

.venv-oldest/installed: requirements.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --python .venv-oldest/bin/python --resolution lowest-direct --only-binary :all: -r requirements.txt
	@touch $@

.venv-colab/installed: tests/colab-requirements.txt
	$(PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet -r tests/colab-requirements.txt
	@touch $@

.PHONY: run test lab site bench mutants elsewhere test-colab setup
