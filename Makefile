# `make demo` and `make test` work in a fresh clone. They need Python 3.11 or newer with venv, and install everything else
# in .venv and .data inside this folder. The stamp files record which lock file .venv holds; `make` syncs a changed one.

PYTHON ?= python3
PORT ?= 8000
export PORT

python = .venv/bin/python
# The demo's packages only, unless the development packages are already installed: a sync would remove those.
demo_packages = $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.demo)

.PHONY: help demo test lint audit bench trial machine-trial upgrade-trial simulate simulate-faults tour image lock

help:
	@echo "make demo   the demo with sample data at http://127.0.0.1:$(PORT) (set PORT= to change the port)"
	@echo "make test   all tests"
	@echo "make lint   ruff, mypy, import-linter, missing migrations, make audit"
	@echo "make audit  known vulnerabilities of the pinned packages"
	@echo "make bench  all benchmarks, also of other products; writes docs/benchmarks.md"
	@echo "make tour   the screenshots of docs/tour.md, taken from a running demo"
	@echo "make trial  lost and repeated messages while a worker, database, broker or mail server fails"
	@echo "make upgrade-trial  an upgrade under load from an earlier version (set FROM= to a commit)"
	@echo "make machine-trial  two worker machines of which one fails, in network namespaces (as root on Linux)"
	@echo "make simulate-faults  whether the simulation finds each planted fault"
	@echo "make simulate  the engine in simulated processes (set SEEDS=1-1000)"
	@echo "make image  the steps of the Dockerfile and the commands of compose.yaml without Docker (as root, with debootstrap)"
	@echo "make lock   the lock files, from the dependencies in pyproject.toml"

demo: $(demo_packages)
	@$(python) -m config.demo

test: .venv/.dev
	$(python) -m pytest -n 3

lint: .venv/.dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports
	$(python) manage.py makemigrations --check --dry-run
	@$(MAKE) --no-print-directory audit

# A separate environment: Outbound does not use pip-audit's packages.
audit: .venv/.audit
	@$(python) -m config.pip_audit .venv/audit/bin/pip-audit

bench: .venv/.dev .venv/.peers
	$(python) -m benchmarks

trial: .venv/.dev
	$(python) -m benchmarks.trial

upgrade-trial: .venv/.dev
	$(python) -m benchmarks.upgrade $(FROM)

machine-trial: .venv/.dev
	$(python) -m benchmarks.machine_trial

SEEDS ?= 1-100
simulate: .venv/.dev
	@$(python) tests/simulation/run.py $(SEEDS)

simulate-faults: .venv/.dev
	@$(python) tests/simulation/run.py 1-1000 --faults=

tour: .venv/.dev
	@$(python) -m config.demo.tour

# As root, with debootstrap. The base folder in .data is made once.
image: .venv/.dev
	@$(python) .ci/image

compile = @$(uv) compile --universal --generate-hashes --custom-compile-command 'make lock'
extras = --extra push --extra saml --extra storage --extra tracing
lock: .venv/.uv
	$(compile) --group uv --output-file requirements-uv.lock
	$(compile) --group audit --output-file requirements-audit.lock
	$(compile) --group peers --output-file benchmarks/requirements-peers.lock
	$(compile) pyproject.toml --output-file requirements.lock
	$(compile) pyproject.toml --extra push --constraint requirements.lock --output-file requirements-push.lock
	$(compile) pyproject.toml --extra saml --constraint requirements.lock --output-file requirements-saml.lock
	$(compile) pyproject.toml --extra demo --constraint requirements.lock --output-file requirements-demo.lock
	$(compile) pyproject.toml $(extras) --constraint requirements-push.lock --output-file requirements-extras.lock
	$(compile) pyproject.toml $(extras) --extra demo --extra dev --constraint requirements-extras.lock --output-file requirements-dev.lock

.venv/.made:
	@for python in "$(PYTHON)" python3.14 python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Outbound needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Setting up .venv ..."; \
	if ! output=$$("$$python" -m venv .venv 2>&1); then \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null && echo "$$output" >&2; \
		echo "Python's venv did not work. On Debian and Ubuntu it is the package python3-venv." >&2; exit 1; \
	fi
	@touch $@

.venv/.uv: .venv/.made requirements-uv.lock
	@$(python) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	@touch $@

# uv does not read pip's settings and does not trust the system's certificates by default. These options let uv reach the
# package registry that pip uses.
certificates = $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),--system-certs)
as_pip = index="$${PIP_INDEX_URL:-$$($(python) -m pip config get global.index-url 2>/dev/null)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	if [ -n "$$PIP_CERT" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; fi;
uv = $(as_pip) .venv/bin/uv $(certificates) --quiet pip

.venv/.demo: .venv/.uv requirements-demo.lock
	@$(uv) sync --require-hashes --python $(python) requirements-demo.lock
	@touch $@

.venv/.dev: .venv/.uv requirements-dev.lock
	@$(uv) sync --require-hashes --python $(python) requirements-dev.lock
	@touch $@

.venv/.audit: .venv/.uv requirements-audit.lock
	@$(as_pip) .venv/bin/uv $(certificates) --quiet venv --allow-existing --python $(python) .venv/audit
	@$(uv) sync --require-hashes --python .venv/audit/bin/python requirements-audit.lock
	@touch $@

.venv/.peers: .venv/.uv benchmarks/requirements-peers.lock
	@$(as_pip) .venv/bin/uv $(certificates) --quiet venv --allow-existing --python $(python) .venv/peers
	@$(uv) sync --require-hashes --python .venv/peers/bin/python benchmarks/requirements-peers.lock
	@touch $@
