# Every target works from a fresh clone: the virtual environment is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
READY := $(VENV)/.ready

.PHONY: demo test server-test browser-test long-test package-test ray-test faults mutations fuzz check licences lock docs bench leaderboard measure ladder calibrate clean

# Everything by version and hash but torch, which is another file for every kind of accelerator, and what pip fetches to
# build the one package that comes as a source archive only (docopt).
$(READY): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# The lock file anew, from the versions in constraints.txt. What torch brings stays out, but for two that are plain Python.
lock: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9.8'
	printf '%s\n' '# The tested set with hashes of every file of each version. Written by `make lock`.' > requirements.new
	printf '%s\n' networkx sympy | $(BIN)/uv pip compile pyproject.toml - --extra gguf --extra dev -c constraints.txt \
	  --universal --python-version 3.11.5 --generate-hashes --no-header --no-annotate --quiet \
	  --excludes <(printf '%s\n' torch pip) >> requirements.new
	mv requirements.new requirements.lock

# The main job on real weights: fetch SmolLM2-135M, measure it with all controls, write records and a leaderboard.
demo: $(READY)
	$(BIN)/bench run smollm2-135m-instruct --out demo/results
	$(BIN)/bench leaderboard --results demo/results --out demo/leaderboard.md --html demo/leaderboard.html

# One worker a core, at most four, each with one thread: workers with several threads wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The same model in process and behind a real server on loopback: a few minutes, not part of `make test`.
server-test: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf,dev,server]'
	$(BIN)/python -m pytest tests/bench/test_real_server.py tests/bench/test_estimate_served.py -m server

# The page of the leaderboard in Chromium, which must be on the machine (Debian: apt-get install chromium).
browser-test: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf,dev,browser]'
	$(BIN)/python -m pytest tests/browser -m browser

# Thousands of records, hundreds of planted zoos: a few minutes, not part of `make test`.
long-test: $(READY)
	$(BIN)/python -m pytest tests -m long

# A wheel of this checkout in a new environment, and its command in an empty folder: two minutes, not part of `make test`.
package-test: $(READY)
	$(BIN)/python -m pytest tests/test_package.py -m package

# Two Ray nodes on this machine, of which one is lost, and workers that are killed: ten minutes, not part of `make test`.
ray-test: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf,dev,ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/bench/test_engine_ray.py -m ray -s

# The whole battery of faults, and docs/faults.md from it: under 25 minutes. SEED=2 for other choices. Chromium shows the
# hostile pages; without it the report says so.
SEED ?= 1
faults: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[gguf,dev,browser]' || true
	$(BIN)/python -m tests.faults --seed $(SEED)

# Takes one safeguard after the other out of a copy, and looks whether the battery notices.
mutations: $(READY)
	$(BIN)/python -m tests.faults.mutations

# Looks for records, task files and replies that break their readers, an hour each; what it finds is kept in .fuzz/.
SECONDS ?= 3600
fuzz: $(READY)
	$(PYTHON) -m venv .fuzz/venv
	.fuzz/venv/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0 || true  # hypothesis then
	PYTHONPATH=.:$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])') \
	  .fuzz/venv/bin/python -m tests.fuzz all --seconds $(SECONDS) --corpus .fuzz

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/bench leaderboard --check
	$(BIN)/python -m bench.dependencies audit requirements.lock

# Every package that is installed for this one, with its licence.
licences: $(READY)
	$(BIN)/python -m bench.dependencies licences

# The pages of docs/ as a site in site/, which needs no network and no server. The environment variable turns off an
# advertisement.
docs: $(READY)
	$(BIN)/python -m bench.cli_reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Rates beside the machine's limits, ratios, growth, and all of them beside the baseline that is committed. On a machine
# that does nothing else; `$(BIN)/python -m tests.benchmarks.compare .benchmarks/last.json --save` makes a new baseline.
bench: $(READY)
	mkdir -p .benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -s --benchmark-enable --benchmark-only \
	  --benchmark-json=.benchmarks/last.json -o python_files='bench_*.py'
	$(BIN)/python -m tests.benchmarks.compare .benchmarks/last.json

leaderboard: $(READY)
	$(BIN)/bench leaderboard

# The committed records, from the weights: says first what is missing and how long it takes. Resumable: what is on disk
# is not measured again. `bench zoo --lane 1/2` and `--lane 2/2` beside each other share the work. A model that cannot be
# had fails the target, but not before the reports on all the others are written; an interruption ends it at once.
measure: $(READY)
	trap 'exit 130' INT; status=0; \
	$(BIN)/bench zoo --out results || status=$$?; \
	$(BIN)/bench leaderboard || status=$$?; \
	$(BIN)/python -m proxies.findings || status=$$?; \
	exit $$status

# The ladder anew: corpus, training, held-out bits per byte. Two to three hours on one core; resumable.
ladder: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf,dev,ladder]'
	$(BIN)/python -m proxies.ladder train
	$(BIN)/python -m proxies.ladder report

# The committed calibration: every estimator on problems with known information. An hour or more; resumable.
calibrate: $(READY)
	$(BIN)/bench calibrate

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks results/.units results/quick
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
