# Each target but test-contrib sets up what it needs in .venv. Windows equivalents are in CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin
CONTRIB := build/contrib
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo unit test test-system system-programs test-windows test-powershell test-contrib coverage lint bench \
	faults prove fuzz fuzz-http chaos attacks vm-image test-vm test-vm-short power-cuts soak soak-vm pictures reference lock sbom docs clean

SEEDS ?= 1000
FAULTS ?= --json docs/pictures/faults.json
RUNS ?= 20
HOURS ?= 1
MINUTES ?= 1
CUTS ?= 10
UV := 0.13.9
COMPILE = $(BIN)/python -m uv pip compile pyproject.toml - --upgrade --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock" --quiet

# For contributors: all tools, and the hooks that run at each commit. With LOCKED=1, here and for the other targets but
# bench, faults and test-contrib, the versions and digests of requirements-dev.txt.
setup: .venv/dev
	$(BIN)/python -m pre_commit install

demo: .venv/examples
	$(BIN)/python -m examples.lunar_lander

# Without processes and servers.
unit: .venv/dev
	$(BIN)/python -m pytest -q tests/unit

test: .venv/dev
	$(BIN)/python -m pytest

# The same with every program of the system that a test needs (tests/programs/system_programs.py); none may be left out.
# `make test-system TESTS=tests/unit` runs a part.
test-system system-programs: export PATH := $(PATH):/usr/sbin:/sbin
test-system: system-programs .venv/dev
	$(BIN)/python -m pytest --nothing-left-out $(TESTS)

system-programs:
	$(PYTHON) -m tests.programs.system_programs

# The suite once more, on Windows CPython under Wine: docs/how-to/windows.md.
test-windows: .venv/dev
	$(BIN)/python -m tests.windows $(WINDOWS)

# The PowerShell scripts, against stand-ins of Windows' modules. Only on Windows, elsewhere it says that it skips:
# tests/powershell/README.md.
test-powershell: .venv/dev
	$(BIN)/python -m tests.powershell

# The optimisers and trackers of others, with their newest versions: they play their own examples on a farm, whatever is
# killed. In an environment of their own, because they bring other versions of libraries along.
test-contrib: $(CONTRIB)/contrib
	$(CONTRIB)/bin/python -m pytest -m contrib --nothing-left-out tests/contrib $(TESTS)

# LEAP demands an older rich than the host does; the part of it that is played here uses none.
$(CONTRIB)/contrib: pyproject.toml
	test -x $(CONTRIB)/bin/pip || $(PYTHON) -m venv $(CONTRIB)
	$(CONTRIB)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[contrib]'
	$(CONTRIB)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'leap-ec>=0.8.2'
	touch $@

# The tests of the rules must reach every branch of them (pyproject.toml, [tool.coverage]).
coverage: .venv/dev
	$(BIN)/coverage run -m pytest -q -m rules
	$(BIN)/coverage report

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of a run of half an hour on a quiet machine, with their targets. BENCH="--quick" is rougher; "--only PART"
# measures a part; "--history FILE" keeps the figures of each commit, and "--history FILE --trend" shows them.
bench: .venv/bench
	$(BIN)/python -m bench $(BENCH)

# One genome of forty misbehaves: this program beside other tools, in 20 minutes, and the picture of the README.
# FAULTS="--only SYSTEM --fault FAULT" measures a part and keeps nothing.
faults: .venv/faults
	$(BIN)/python -m bench.faults $(FAULTS)
	$(BIN)/python -m docs.pictures.faults

# PROOF=short plays histories only: the tests of the simulator play some crash points, mutations and properties.
prove: .venv/dev
	$(BIN)/python -m tests.simulator --seed 1 --count $(SEEDS) --journal build/prove.jsonl
ifneq ($(PROOF),short)
	$(BIN)/python -m tests.simulator.crash_points
	$(BIN)/python -m tests.simulator.mutations
	FARM_EXAMPLES=300 $(BIN)/python -m pytest -q -m properties
endif

# The decoders of bytes from outside, under a fuzzer; only for CPython on Linux.
fuzz: .venv/fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# Requests made from the served OpenAPI, valid and invalid ones, against a real farm.
fuzz-http: .venv/dev
	$(BIN)/python -m tests.programs.http_fuzz --minutes $(MINUTES)

chaos: .venv/dev
	$(BIN)/python -m tests.programs.chaos --runs $(RUNS)

# A hostile worker beside an honest one: what it costs that one, and the host.
attacks: .venv/dev
	$(BIN)/python -m tests.programs.attacks

# Real virtual machines. They need root, QEMU and mmdebstrap (`make system-programs` installs them).
vm-image: .venv/dev
	$(BIN)/python -m vm_image

test-vm: vm-image
	$(BIN)/python -m pytest -m vm

test-vm-short: vm-image
	$(BIN)/python -m pytest -m vm -k freeze

# A guest that runs host and local workers is reset while it plays.
power-cuts: .venv/dev
	$(BIN)/python -m tests.programs.power_cuts --cuts $(CUTS)

# `pipeline watch` under faults, with samples of what it takes: in build/soak. As root, with mount and Samba
# (`make system-programs`), its disk is full at times, and a share goes away.
soak: .venv/dev
	$(BIN)/python -m tests.programs.soak --hours $(HOURS)

soak-vm: vm-image
	$(BIN)/python -m tests.programs.soak_machines --hours $(HOURS)

pictures: .venv/dev
	$(BIN)/python -m docs.pictures

# The pages of settings and commands, from the code.
reference: .venv/dev
	$(BIN)/python -m docs.reference

# The newest versions that pyproject.toml allows, with the digests of their files: for this repository's tools, and for
# the agent's bundle. hatchling and editables build the package.
lock: .venv/dev
	$(PIP) uv==$(UV)
	printf 'hatchling\neditables\n' | $(COMPILE) --extra dev --extra docs --extra fuzz --extra sbom \
		--output-file requirements-dev.txt
	echo pip | $(COMPILE) --no-annotate --output-file pipeline/bundle/agent-requirements.txt

# What an installation of the wheel with the extra for the host consists of, as CycloneDX.
sbom: .venv/sbom
	rm -rf build/sbom
	$(BIN)/python -m build --no-isolation --wheel --outdir build/sbom
	$(PYTHON) -m venv --without-pip build/sbom/env
	$(BIN)/python -m pip --python build/sbom/env/bin/python install --quiet "$$(ls build/sbom/*.whl)[host]"
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom/genome-pipeline.cdx.json build/sbom/env/bin/python

docs: .venv/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

clean:
	rm -rf .venv build dist .coverage .mypy_cache .pytest_cache .ruff_cache
	rm -rf lander-demo lander-demo-[0-9] lander-demo-[0-9][0-9]

.venv/%: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
ifdef LOCKED
	$(PIP) --require-hashes --requirement requirements-dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
else
	$(PIP) --editable '.[$*]'
endif
	touch $@
