# Every target sets up what it needs in .venv by itself (scripts/setup); PYTHON=... chooses another interpreter.
PY := .venv/bin/python

.PHONY: help demo test check soak bench format clean run-env dev-env

help:
	@echo "make demo    analyse Python's standard library on this machine's cores; writes a report"
	@echo "make demo SITE=fake-slurm    the same on another site: one of \`flowlib sites list\`, or a fake scheduler"
	@echo "make test    every test, long matrices sampled (set FLOWLIB_TEST_SEED to repeat a sample)"
	@echo "make check   format, lint, types, tests of the pure cores: under a minute"
	@echo "make soak    every test with every matrix in full"
	@echo "make bench   the project's own measurements"
	@echo "make format  put the source in form"
	@echo "make clean   remove what the other targets made"

run-env:
	@scripts/setup run

dev-env:
	@scripts/setup dev

demo: run-env
	@scripts/demo $(SITE)

check: dev-env
	@scripts/check

test: dev-env
	@scripts/test --session-timeout 1200

soak: dev-env
	@FLOWLIB_SOAK=1 scripts/test --timeout 600

bench: run-env
	@$(PY) -m benchmarks

format: dev-env
	@$(PY) -m ruff format --quiet .
	@$(PY) -m ruff check --quiet --fix .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis runinfo output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
