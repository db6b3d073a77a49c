#!/usr/bin/env bash
# Compiles the lock files anew: exact versions with hashes, and no word about where they come from.
# The development and benchmark locks keep to the product's and the lab's versions (-c), so that one environment serves both.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv-lock/bin/uv ] || { python3 -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv; }
compile() {
    .venv-lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header "$@"
}
compile deploy/requirements.in -o deploy/requirements.lock
compile deploy/requirements-dev.in -c deploy/requirements.lock -o deploy/requirements-dev.lock
compile deploy/requirements-lab.in -o deploy/requirements-lab.lock
compile deploy/requirements-bench.in -o deploy/requirements-bench.lock
if grep -nE '(https?|file)://|--(index-url|extra-index-url|find-links)' deploy/*.lock; then
    echo "A lock file names a host or a folder; take these lines out." >&2
    exit 1
fi
