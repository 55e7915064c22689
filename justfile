set positional-arguments

bin := justfile_directory() / ".venv/bin"
python := env("PYTHON", "python3")

# List the recipes
default:
    @just --list

[private]
_run-env:
    @{{ python }} run.py _run-env

[private]
_dev-env:
    @{{ python }} run.py _dev-env

# Start everything in the foreground: PostgreSQL, Valkey, API, worker; Ctrl-C stops it
up *arguments: _run-env
    @exec "{{ bin }}/chitram" up "$@"

# Run the API alone, against servers named by CHITRAM_DATABASE_URL and CHITRAM_VALKEY_URL
api *arguments: _run-env
    @exec "{{ bin }}/chitram" api "$@"

# Run one background worker alone, against the same servers
worker *arguments: _run-env
    @exec "{{ bin }}/chitram" worker "$@"

# Administration: `just admin --help` lists the commands
admin *arguments: _run-env
    @exec "{{ bin }}/chitram" admin "$@"

# Bring the database schema up to date
migrate *arguments: _run-env
    @exec "{{ bin }}/chitram" migrate "$@"

# Run all tests, or what pytest makes of the arguments: `-n 2` runs them in two processes
test *arguments: _dev-env
    @exec "{{ bin }}/python" -m pytest "$@"

# Run all tests and count the branches that they take; fails when these are fewer than nine in ten
coverage *arguments: _dev-env
    "{{ bin }}/coverage" erase
    "{{ bin }}/coverage" run -m pytest "$@"
    "{{ bin }}/coverage" combine --quiet
    "{{ bin }}/coverage" report

# Run the long tests too, which measure and break things on purpose, and print what they found
test-full *arguments: _dev-env
    @"{{ bin }}/python" -m pytest -m "long or not long" "$@"

# Measure beside peers in the same run: all of it, or `quick`, or `growth`; `--help` says more
bench *arguments: _dev-env
    @exec "{{ bin }}/python" -m benchmarks "$@"

# What CI runs: format, lint, types, import contracts, OpenAPI drift, tests
check: _dev-env lint openapi-check test

# Format, lint, types and import contracts, without the tests
lint: _dev-env
    "{{ bin }}/ruff" format --check .
    "{{ bin }}/ruff" check .
    "{{ bin }}/mypy"
    "{{ bin }}/lint-imports"

# Format the code and apply the safe lint fixes
format: _dev-env
    "{{ bin }}/ruff" format .
    "{{ bin }}/ruff" check --fix .

# Write the OpenAPI document
openapi: _dev-env
    "{{ bin }}/chitram" openapi > docs/openapi.json

# Fail when the committed OpenAPI document is not what the code says
openapi-check: _dev-env
    "{{ bin }}/chitram" openapi | diff -u docs/openapi.json -

# Compile the hashed pins again from pyproject.toml; no registry's address is written down
pins *arguments: _dev-env
    "{{ bin }}/uv" pip compile -q --universal --generate-hashes --no-header --python-version 3.11 "$@" pyproject.toml --group dev --extra embedded -o config/requirements/dev.txt
    "{{ bin }}/uv" pip compile -q --universal --generate-hashes --no-header --python-version 3.11 -c config/requirements/dev.txt pyproject.toml --group local --extra embedded -o config/requirements/run.txt
    "{{ bin }}/uv" pip compile -q --universal --generate-hashes --no-header --python-version 3.11 -c config/requirements/dev.txt pyproject.toml -o config/requirements/server.txt
    "{{ bin }}/uv" pip compile -q --universal --generate-hashes --no-header --python-version 3.11 "$@" config/requirements/thumbor.in -o config/requirements/thumbor.txt
