# Each target does its own set-up; on a fresh Debian it needs python3 >= 3.11 and a way to PyPI.
VENV = .venv
RUN = $(VENV)/bin/python -m
PACKED = chucky debian docs etc systemd facts.txt setup.py LICENSE README.md

# Else a daemon compiles itself anew at each start, for 50 ms; the package has it compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check sim walk mutants scenarios lan machines bench bench-peers deb package-check clean

demo: $(VENV)/demo.stamp
	@$(RUN) chucky demo

test: check
	@$(RUN) pytest tests

check: $(VENV)/test.stamp
	@$(RUN) ruff check .
	@$(RUN) mypy --strict chucky

# These two need the standard library only: PYTHON=pypy3 (Debian 13) is faster on some machines.
PYTHON = $(VENV)/bin/python
sim walk: $(filter $(VENV)/bin/python,$(PYTHON))

sim: SEEDS = 1000
sim: FIRST = 0
sim: $(if $(COMPILED),$(VENV)/compiled.stamp)
	@cd $(if $(COMPILED),$(VENV)/compiled,.) && $(if $(COMPILED),../bin/python,$(PYTHON)) \
		-m tests.sim.run --seeds $(SEEDS) --first $(FIRST)

# COMPILED=1 takes half the time, and wants gcc.
$(VENV)/compiled.stamp: $(VENV)/test.stamp $(shell find chucky tests/sim -name '*.py')
	@$(RUN) tests.sim.compiled $(VENV)/compiled >$(VENV)/compiled.log 2>&1 || \
		{ cat $(VENV)/compiled.log >&2; exit 1; }
	@touch $@

walk: SECONDS = 300
walk:
	@$(PYTHON) -m tests.sim.walk --seconds $(SECONDS)

mutants: $(VENV)/test.stamp
	@$(RUN) tests.mutants

# REWRITE=1 writes the traces of tests/scenarios anew, where every `expect` line holds.
scenarios: export REWRITE := $(REWRITE)
scenarios: $(VENV)/test.stamp
	@$(RUN) pytest -q tests/test_scenarios.py

lan: $(VENV)/test.stamp
	@$(RUN) pytest tests/lan

machines: $(VENV)/test.stamp chucky.deb
	@$(RUN) pytest tests/machines

# Wants gcc, root and an idle machine. PARTS="throughput idle" measures less, MINUTES=60 counts
# false alarms for an hour, WRITE=1 puts what was measured into the docs.
bench: PARTS =
bench: $(VENV)/demo.stamp
	@$(RUN) bench $(if $(WRITE),--write) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(NICE),--nice $(NICE)) $(PARTS)

# Debian's own packages; on a machine with systemd that of nginx also starts a server on port 80.
bench-peers: export DEBIAN_FRONTEND := noninteractive
bench-peers:
	@apt-get update -qq && apt-get install -qq -y --no-install-recommends \
		elixir erlang-base keepalived nginx libnginx-mod-stream gcc libc6-dev >/dev/null
	@$(MAKE) --no-print-directory bench

deb: chucky.deb

package-check:
	@tests/package_check.sh

clean:
	rm -rf $(VENV) chucky.deb .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/demo.stamp: Makefile | $(VENV)/bin/python
	@$(RUN) pip install -q --use-pep517 --disable-pip-version-check sdnotify pyroute2 tomli
	@touch $@

$(VENV)/test.stamp: Makefile $(VENV)/demo.stamp
	@$(RUN) pip install -q --use-pep517 --disable-pip-version-check pytest hypothesis setuptools \
		'mypy==2.4.*' 'ruff<0.18'
	@touch $@

$(VENV)/bin/python:
	@python3 -c 'import ensurepip' 2>/dev/null || if [ "$$(id -u)" = 0 ]; \
		then apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; \
		else echo "no venv: sudo apt-get install python3-venv" >&2; exit 1; fi
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$(python3 -V): want 3.11 or newer" >&2; exit 1; }
	@python3 -m venv $(VENV)

# Made in a copy, since dpkg-buildpackage writes beside its tree, and with Debian's own python3.
# nocheck: `make test` runs the tests; here they would want their packages installed a second time.
chucky.deb: export PATH := /usr/sbin:/usr/bin:/sbin:/bin
chucky.deb: export DEB_BUILD_OPTIONS := nocheck
chucky.deb: $(shell find $(PACKED) -not -path '*/__pycache__*' 2>/dev/null)
	@dpkg-checkbuilddeps -P nocheck 2>/dev/null || if [ "$$(id -u)" = 0 ]; \
		then apt-get update -qq && apt-get build-dep -qq -y --no-install-recommends -P nocheck . >/dev/null; \
		else echo "no build tools: sudo apt-get build-dep -P nocheck ." >&2; exit 1; fi
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; mkdir "$$tmp/chucky"; \
		tar -c --exclude=__pycache__ $(PACKED) | tar -x -C "$$tmp/chucky"; \
		(cd "$$tmp/chucky" && dpkg-buildpackage -us -uc -b -Pnocheck) >"$$tmp/log" 2>&1 || \
			{ cat "$$tmp/log" >&2; exit 1; }; \
		cp "$$tmp"/chucky_*_all.deb chucky.deb; ls -l chucky.deb
