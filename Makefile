# make demo: install, train three recipes with built-in data, open a gallery.  make test: the whole test suite.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check install install-dev clean

install: .venv/installed
install-dev: .venv/installed-dev

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import sys; sys.exit("mmvae needs Python 3.11 or later: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python tools/demo.py demo

test: install-dev check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check --error-on-warning mmvae tools tests benchmarks
	$(BIN)/python tools/check_imports.py

clean:
	rm -rf .venv demo runs dist build
