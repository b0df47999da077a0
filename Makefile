# Two commands on a fresh machine: `make demo` and `make test`. They need Python 3.11+ with venv, and set up the rest in
# .venv and .data, both inside this folder. The stamps say what .venv holds; a changed lock file is synced again.

PYTHON ?= python3
PORT ?= 8000
export PORT

python = .venv/bin/python
# Only what runs, where nothing else was asked for yet; never less than is there already.
runtime = $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.runtime)

.PHONY: help demo test lint audit bench tour lock

help:
	@echo "make demo   a filled company, web, worker, beat and mail at http://127.0.0.1:$(PORT) (PORT= to change)"
	@echo "make test   the whole suite"
	@echo "make lint   ruff, mypy, import-linter, migrations in step"
	@echo "make audit  whether any pinned package is known to be harmful (a part of make lint)"
	@echo "make bench  what is measured, as one table"
	@echo "make tour   the pictures of docs/tour.md, taken of a demo that runs beside it"
	@echo "make trial  a worker that is killed, a database, a broker and a mail server that go away: what is lost"
	@echo "make lock   pin the requirements*.in again"

demo: $(runtime)
	@$(python) -m config.demo

test: .venv/.dev
	$(python) -m pytest -n 2

lint: .venv/.dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports
	$(python) manage.py makemigrations --check --dry-run
	@$(MAKE) --no-print-directory audit

# An environment of its own: what it needs is nothing Outbound runs on.
audit: .venv/.audit
	@$(python) -m config.pip_audit .venv/audit/bin/pip-audit

bench: .venv/.dev
	$(python) -m benchmarks

trial: .venv/.dev
	$(python) -m benchmarks.trial

tour: .venv/.dev
	@$(python) -m config.demo.tour

compile = @$(uv) compile --universal --generate-hashes --custom-compile-command 'make lock'
lock: .venv/.uv
	$(compile) requirements-uv.in --output-file requirements-uv.lock
	$(compile) requirements.in --output-file requirements.lock
	$(compile) requirements-audit.in --output-file requirements-audit.lock
	$(compile) requirements-dev.in --constraint requirements.lock --output-file requirements-dev.lock

.venv/.made:
	@for python in "$(PYTHON)" python3.14 python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Outbound needs Python 3.11 or newer, and found none. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Setting up .venv ..."; \
	if ! said=$$("$$python" -m venv .venv 2>&1); then \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null && echo "$$said" >&2; \
		echo "Python's venv did not work. On Debian and Ubuntu it is the package python3-venv." >&2; exit 1; \
	fi
	@touch $@

.venv/.uv: .venv/.made requirements-uv.lock
	@$(python) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	@touch $@

# uv reads none of pip's settings, and trusts none of the system's certificates unless told to. Whoever reaches the
# package registry with pip reaches it here too.
certificates = $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),--system-certs)
as_pip = index="$${PIP_INDEX_URL:-$$($(python) -m pip config get global.index-url 2>/dev/null)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	if [ -n "$$PIP_CERT" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; fi;
uv = $(as_pip) .venv/bin/uv $(certificates) --quiet pip

.venv/.runtime: .venv/.uv requirements.lock
	@$(uv) sync --require-hashes --python $(python) requirements.lock
	@touch $@

.venv/.dev: .venv/.uv requirements-dev.lock
	@$(uv) sync --require-hashes --python $(python) requirements-dev.lock
	@touch $@

.venv/.audit: .venv/.uv requirements-audit.lock
	@$(as_pip) .venv/bin/uv $(certificates) --quiet venv --allow-existing --python $(python) .venv/audit
	@$(uv) sync --require-hashes --python .venv/audit/bin/python requirements-audit.lock
	@touch $@
